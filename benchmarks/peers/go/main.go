// The peer in Go: ReadBatch and WriteBatch of golang.org/x/net/ipv4.
//
// It reads a measurement a line, "batch size control offload bursts burst", and answers with a line of
// the nanoseconds of each burst's sending and one of its receiving, as loop.c does. The package has no
// offload. What its control messages lack is in control.go, so that all peers move the same.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	stride        = 2048
	receiveBuffer = 16 << 20
)

func open() (*net.UDPConn, *ipv4.PacketConn) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	onDescriptor(conn, func(fd int) error { return forceReceiveBuffer(fd, receiveBuffer) })
	return conn, ipv4.NewPacketConn(conn)
}

func onDescriptor(conn *net.UDPConn, set func(int) error) {
	raw, err := conn.SyscallConn()
	check(err)
	check(raw.Control(func(fd uintptr) { err = set(int(fd)) }))
	check(err)
}

func messages(count, size, control int) []ipv4.Message {
	slab := make([]byte, count*stride)
	for i := range slab {
		slab[i] = 1
	}
	made := make([]ipv4.Message, count)
	for i := range made {
		made[i].Buffers = [][]byte{slab[i*stride : i*stride+size]}
		if control > 0 {
			made[i].OOB = make([]byte, control)
		}
	}
	return made
}

func measure(batch, size, control, bursts, burst int) (sent, received []int64) {
	receiverConn, receiver := open()
	defer receiverConn.Close()
	senderConn, sender := open()
	defer senderConn.Close()
	room := 0
	if control != 0 {
		flags := ipv4.FlagTTL | ipv4.FlagSrc | ipv4.FlagDst | ipv4.FlagInterface
		check(receiver.SetControlMessage(flags, true))
		onDescriptor(receiverConn, wantControl)
		room = 256
	}
	out := messages(burst, size, 0)
	in := messages(burst, stride, room)
	path := append(ttlAndTos(9, 2), (&ipv4.ControlMessage{Src: net.IPv4(127, 0, 0, 1)}).Marshal()...)
	for i := range out {
		out[i].Addr = receiverConn.LocalAddr()
		if control != 0 {
			out[i].OOB = bytes.Clone(path)
		}
	}
	for range bursts {
		start := time.Now()
		for i := 0; i < burst; {
			n, err := sender.WriteBatch(out[i:min(i+batch, burst)], 0)
			check(err)
			i += n
		}
		sent = append(sent, time.Since(start).Nanoseconds())
		start = time.Now()
		for i := 0; i < burst; {
			n, err := receiver.ReadBatch(in[i:min(i+batch, burst)], 0)
			check(err)
			i += n
		}
		received = append(received, time.Since(start).Nanoseconds())
	}
	return sent, received
}

func main() {
	runtime.LockOSThread()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var batch, size, control, offload, bursts, burst int
		_, err := fmt.Sscan(lines.Text(), &batch, &size, &control, &offload, &bursts, &burst)
		check(err)
		if offload != 0 {
			log.Fatal("there is no offload here")
		}
		sent, received := measure(batch, size, control, bursts, burst)
		for _, times := range [][]int64{sent, received} {
			fmt.Println(strings.Trim(fmt.Sprint(times), "[]"))
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
