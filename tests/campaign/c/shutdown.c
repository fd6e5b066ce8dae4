/* Shuts a file system down as a loss of power would: what is not on the disk yet never gets there. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define FS_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#define WITHOUT_FLUSHING_THE_LOG 2

int main(int argc, char **argv)
{
	uint32_t how = WITHOUT_FLUSHING_THE_LOG;
	int dir = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

	if (dir < 0 || ioctl(dir, FS_IOC_SHUTDOWN, &how) != 0) {
		perror("shutdown of the file system");
		return 1;
	}
	return 0;
}
