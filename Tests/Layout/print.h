/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The macros with which the programs of layout.awk print. They print these lines:
 *
 *   record struct x size 16 align 8
 *   field struct x.member offset 8 size 4 kind u32        size of an element for kind u32[]
 *   enum enum y size 4
 *   constant NAME 15232
 */
#include <linux/types.h>
#include <stddef.h>
#include <stdio.h>

/* The kind distinguishes members of the same size: signed ones, pointers, nested records. */
#define KIND(lvalue)                                                                               \
    _Generic((lvalue),                                                                             \
        __u8: "u8",                                                                                \
        __s8: "s8",                                                                                \
        __u16: "u16",                                                                              \
        __s16: "s16",                                                                              \
        __u32: "u32",                                                                              \
        __s32: "s32",                                                                              \
        __u64: "u64",                                                                              \
        __s64: "s64",                                                                              \
        __u64 *: "u64-pointer",                                                                    \
        default: "record")

/* The members of the null pointer are only measured, not read. */
#define MEMBER(type, path) (((type *)0)->path)

#define RECORD(type) printf("record %s size %zu align %zu\n", #type, sizeof(type), _Alignof(type))

#define FIELD(type, path)                                                                          \
    printf("field %s.%s offset %zu size %zu kind %s\n", #type, #path, offsetof(type, path),        \
           sizeof(MEMBER(type, path)), KIND(MEMBER(type, path)))

#define ARRAY(type, path)                                                                          \
    printf("field %s.%s offset %zu size %zu kind %s[%zu]\n", #type, #path, offsetof(type, path),   \
           sizeof(MEMBER(type, path)), KIND(MEMBER(type, path)[0]),                                \
           sizeof(MEMBER(type, path)) / sizeof(MEMBER(type, path)[0]))

#define FLEXIBLE_ARRAY(type, path)                                                                 \
    printf("field %s.%s offset %zu size %zu kind %s[]\n", #type, #path, offsetof(type, path),      \
           sizeof(MEMBER(type, path)[0]), KIND(MEMBER(type, path)[0]))

#define ENUMERATION(type) printf("enum %s size %zu\n", #type, sizeof(type))

static inline void print_number(const char *name, long long value) {
    printf("constant %s %lld\n", name, value);
}

static inline void print_text(const char *name, const char *value) {
    printf("constant %s \"%s\"\n", name, value);
}

#define CONSTANT(name, value)                                                                      \
    _Generic((value), char *: print_text, default: print_number)(name, value)
