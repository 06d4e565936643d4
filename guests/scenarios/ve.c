#include "guests/scenarios/scenario.h"

const struct scenario ve_scenarios[] = {
    {0},
};
