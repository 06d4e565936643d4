# The prompt says on which level one is.
PS1='L1# '
