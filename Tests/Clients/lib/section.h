/* SPDX-License-Identifier: Apache-2.0 */
/* Section titles: lines "# TITLE" that divide what a client prints. */
#ifndef SECTION_H
#define SECTION_H

/**
 * The part of the interface that the following sections belong to, or NULL: no part. The title of
 * such a section begins with "part NAME: ". scripts/dev/transcripts/compare leaves the section out for
 * a front end without that part.
 */
extern const char *part;

/** Prints "# " and the title. */
void section(const char *format, ...);

#endif /* SECTION_H */
