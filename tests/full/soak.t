#!/bin/sh
# Ten minutes of tests/vm/soak.t, with seeds of their own.
exec "$(dirname "$0")/../vm/soak.t" 10 1000
