package main

import "golang.org/x/sys/unix"

// forceReceiveBuffer asks for a receive buffer past the system's limit, or within it where that is not
// allowed.
func forceReceiveBuffer(fd, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
}
