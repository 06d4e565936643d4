#include "guests/scenarios/scenario.h"

const struct scenario shadow_scenarios[] = {
    {0},
};
