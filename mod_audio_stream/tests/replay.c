/*
 * replay.c - feeds every file of a directory to a fuzz target, so that what fuzzing has found stays found without
 * clang.
 *
 * `replay DIRECTORY`; linked with one fuzz_*.c. Fails when there is nothing to feed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The file's bytes in memory of exactly that size: reading past them is noticed. */
static int replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END)) {
		perror(path);
		return 1;
	}
	size_t n = (size_t)ftell(file);
	uint8_t *data = malloc(n);
	rewind(file);
	int bad = (n && !data) || fread(data, 1, n, file) != n;
	fclose(file);
	if (bad) {
		perror(path);
	} else {
		LLVMFuzzerTestOneInput(data, n);
	}
	free(data);
	return bad;
}

int main(int argc, char **argv)
{
	DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
	if (!directory) {
		fprintf(stderr, "%s: no corpus %s\n", argv[0], argc == 2 ? argv[1] : "named");
		return 1;
	}
	int fed = 0, bad = 0;
	for (struct dirent *entry; (entry = readdir(directory));) {
		char path[4096];
		if (entry->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
			bad |= replay(path);
			fed++;
		}
	}
	closedir(directory);
	printf("%d inputs\n", fed);
	return bad || fed == 0;
}
