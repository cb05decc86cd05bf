/* main() of every test executable; apart from check.c so that fuzzers and tools with a main of their
 * own can use the checks. */
#include "check.h"

int main(int argc, char **argv)
{
    return check_main(argc, argv);
}
