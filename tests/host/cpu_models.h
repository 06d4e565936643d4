/* The VMX capability MSRs of CPU models that the tests run on, as RDMSR gave them.
 * Nothing must hold before.
 * tests/host/ only. */
#ifndef TESTS_HOST_CPU_MODELS_H
#define TESTS_HOST_CPU_MODELS_H

#include "vmx/caps.h"

/* The differences between the models; the rest is the same on all. */
#define MODEL(basic_, proc_, proc2_, exit_, entry_, ept_vpid_, misc_, vmfunc_, cr4_)                                   \
    MODEL3(0x34, 0x7f, 0, basic_, proc_, proc2_, exit_, entry_, ept_vpid_, misc_, vmfunc_, cr4_)
/* Of Bochs 3.1. */
#define MODEL3(enum_, pin_, proc3_, basic_, proc_, proc2_, exit_, entry_, ept_vpid_, misc_, vmfunc_, cr4_)             \
    {                                                                                                                  \
        .basic = basic_, .misc = misc_, .ept_vpid = ept_vpid_, .vmfunc = vmfunc_, .vmcs_enum = enum_, .proc3 = proc3_, \
        .exit2 = (proc3_) ? 0x100000c : 0, .spec_ctrl = (proc3_) ? 0x5ff : 0, .cr0_fixed0 = 0x80000021,                \
        .cr0_fixed1 = 0xffffffff, .cr4_fixed0 = 0x2000, .cr4_fixed1 = cr4_, .pin = {0x16, pin_},                       \
        .proc = {0x04006172, proc_}, .proc2 = {0, proc2_}, .exit = {0x36dfb, exit_}, .entry = {0x11fb, entry_},        \
        .old_pin = {0x16, pin_}, .old_proc = {0x0401e172, proc_}, .old_exit = {0x36dff, exit_},                        \
        .old_entry = {0x11ff, entry_}, .address_bits = 40, .linear_bits = 48,                                          \
    }

static const struct vmx_caps model_sandy_bridge =
    MODEL(0x00d810000000002b, 0xf7f9fffe, 0x000000ff, 0x7fffff, 0xffff, 0xf0106114141, 0x000401e0, 0, 0x627ff);
static const struct vmx_caps model_haswell =
    MODEL(0x00d810000000002b, 0xf7f9fffe, 0x00047fff, 0x7fffff, 0xffff, 0xf0106334141, 0x200401e0, 1, 0x1727ff);
static const struct vmx_caps model_skylake_x =
    MODEL(0x00d810000000002b, 0xf7f9fffe, 0x02177fff, 0x7fffff, 0xffff, 0xf0106334141, 0x600401e0, 1, 0x3727ff);
static const struct vmx_caps model_cnl =
    MODEL(0x00d810000000002b, 0xf7f9fffe, 0x02157cff, 0x7fffff, 0xffff, 0xf0106334141, 0x600401e0, 1, 0x772fff);
static const struct vmx_caps model_icelake_u =
    MODEL(0x00d8100000000004, 0xfff9fffe, 0x02977fff, 0x7fffff, 0xffff, 0xf0106334141, 0x600401e0, 1, 0x772fff);
static const struct vmx_caps model_tigerlake =
    MODEL(0x01d8100000000004, 0xfff9fffe, 0x02977fff, 0x107fffff, 0x10ffff, 0xf0106b34141, 0x600401e0, 1, 0xf72fff);

static const struct vmx_caps model_sapphire_rapids =
    MODEL3(0x54, 0xff, 0x80, 0x01d8100000000004, 0xfffbfffe, 0x06d77fff, 0xf87fffff, 0x58ffff, 0xf0106f34141,
           0x600401e0, 1, 0x3f73fff);
static const struct vmx_caps model_arrow_lake = MODEL3(0x54, 0xff, 0x80, 0x01d8100000000004, 0xfffbfffe, 0x06d77fff,
                                                       0xf87fffff, 0x58ffff, 0xf0106f34141, 0x600401e0, 1, 0xbf72fff);

static const struct vmx_caps model_wildcat_lake = MODEL3(0x54, 0xff, 0xc0, 0x01d8100000000004, 0xfffbfffe, 0x06d77fff,
                                                         0xf87fffff, 0x58ffff, 0xf0106f34141, 0x600401e0, 1, 0xbf72fff);

static const struct vmx_caps *const models[] = {
    &model_sandy_bridge, &model_haswell,         &model_skylake_x,  &model_cnl,         &model_icelake_u,
    &model_tigerlake,    &model_sapphire_rapids, &model_arrow_lake, &model_wildcat_lake};

#endif
