package main

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wantControl turns on what golang.org/x/net/ipv4 has no name for: the TOS and the timestamp of what is
// received.
func wantControl(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
}

// appendItem appends a control message of the kernel's form, as the package does for PKTINFO alone.
func appendItem(control []byte, level, kind int32, data []byte) []byte {
	at := len(control)
	control = append(control, make([]byte, unix.CmsgSpace(len(data)))...)
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[at]))
	header.Level = level
	header.Type = kind
	header.SetLen(unix.CmsgLen(len(data)))
	copy(control[at+unix.CmsgLen(0):], data)
	return control
}

// ttlAndTos are the control messages that set both for one datagram.
func ttlAndTos(ttl, tos uint32) []byte {
	control := appendItem(nil, unix.IPPROTO_IP, unix.IP_TTL, binary.NativeEndian.AppendUint32(nil, ttl))
	return appendItem(control, unix.IPPROTO_IP, unix.IP_TOS, binary.NativeEndian.AppendUint32(nil, tos))
}
