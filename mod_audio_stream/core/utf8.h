/*
 * utf8.h - texts of any bytes, as servers and JSON take them: UTF-8 (RFC 3629). Any thread.
 *
 * FreeSWITCH hands on a caller's name as the bytes that came over SIP, which may be Latin-1 or anything else.
 */
#ifndef AS_UTF8_H
#define AS_UTF8_H

/* A copy with U+FFFD for every byte that is part of no UTF-8 character; malloc'ed, NULL without memory. */
char *as_utf8_clean(const char *text);
int as_utf8_check(const char *text); /* 1: it is UTF-8 */

#endif
