/* Texts of any bytes: what is UTF-8 (RFC 3629, section 3) stays, every other byte becomes U+FFFD. */
#define _GNU_SOURCE
#include "support.h"

#include "utf8.h"

#define R "\xef\xbf\xbd"

static void test_what_is_utf8_stays(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		"plain",
		"Andr\xc3\xa9",
		"\xe2\x82\xac",
		"\xf0\x9f\x98\x80",
		"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80"
		"\xf4\x8f\xbf\xbf"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char *clean = as_utf8_clean(texts[i]);
		assert_string_equal(clean, texts[i]);
		assert_int_equal(as_utf8_check(texts[i]), 1);
		free(clean);
	}
}

static void test_what_is_not_is_replaced(void **state)
{
	(void)state;
	static const struct {
		const char *text, *clean;
	} cases[] = {
		{"Andr\xe9", "Andr" R}, /* Latin-1 */
		{"\xe9t\xe9", R "t" R},
		{"\xc0\xaf", R R}, /* longer than needed */
		{"\xe0\x80\xaf", R R R},
		{"\xf0\x80\x80\xaf", R R R R},
		{"\xed\xa0\x80", R R R},       /* a surrogate */
		{"\xf4\x90\x80\x80", R R R R}, /* beyond U+10FFFF */
		{"\xff\xfe", R R},
		{"a\xe2\x82", "a" R R}, /* cut off */
		{"\xf0\x9f\x98", R R R},
		{"\x80", R}, /* no beginning */
		{"\xe2\x82"
		 "c\xc3\xa9",
		 R R "c\xc3\xa9"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *clean = as_utf8_clean(cases[i].text);
		assert_string_equal(clean, cases[i].clean);
		assert_int_equal(as_utf8_check(cases[i].text), 0);
		assert_int_equal(as_utf8_check(clean), 1);
		free(clean);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_utf8_stays),
		cmocka_unit_test(test_what_is_not_is_replaced),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
