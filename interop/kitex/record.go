package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/transport"

	"interop/kitex/kitex_gen/rpc"
	"interop/kitex/kitex_gen/rpc/imservice"
)

// A call and its reply as they went over the wire between a Kitex client and a Kitex server.
type vector struct {
	Name    string `json:"name"`
	Request string `json:"request"`
	Reply   string `json:"reply"`
}

// record prints vectors of a Kitex client's calls to a Kitex server, through a proxy that listens in.
func record() error {
	target := "127.0.0.1:18999"
	go serve(target, nil)
	tap, err := listenIn(target)
	if err != nil {
		return err
	}
	var vectors []vector
	transports := map[string][]client.Option{
		"PurePayload":    {client.WithTransportProtocol(transport.PurePayload)},
		"Framed":         {client.WithTransportProtocol(transport.Framed)},
		"TTHeader":       {client.WithTransportProtocol(transport.TTHeader), client.WithMetaHandler(transmeta.ClientTTHeaderHandler)},
		"TTHeaderFramed": {client.WithTransportProtocol(transport.TTHeaderFramed), client.WithMetaHandler(transmeta.ClientTTHeaderHandler)},
	}
	for _, name := range []string{"PurePayload", "Framed", "TTHeader", "TTHeaderFramed"} {
		c, err := imservice.NewClient(service, append(transports[name], client.WithHostPorts(tap.addr), client.WithRPCTimeout(3*time.Second))...)
		if err != nil {
			return err
		}
		ctx := context.Background()
		message := &rpc.Message{Chat: "v-" + name + ":b", Text: "text \r\n \U0001F980", Sender: "b"}
		reverse := true
		for _, call := range []struct {
			name string
			run  func() error
		}{
			{"Send", func() error { _, err := c.Send(ctx, &rpc.SendRequest{Message: message}); return err }},
			{"Pull", func() error {
				_, err := c.Pull(ctx, &rpc.PullRequest{Chat: message.Chat, Limit: 10, Reverse: &reverse})
				return err
			}},
			{"Pull of nothing", func() error {
				_, err := c.Pull(ctx, &rpc.PullRequest{Chat: "nothing:b", Cursor: 1 << 40, Limit: -1})
				return err
			}},
		} {
			if err := call.run(); err != nil {
				return fmt.Errorf("%s, %s: %w", name, call.name, err)
			}
			request, reply := tap.take()
			vectors = append(vectors, vector{name + ", " + call.name, hex.EncodeToString(request), hex.EncodeToString(reply)})
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	return out.Encode(vectors)
}

type wiretap struct {
	sync.Mutex
	addr           string
	request, reply []byte
}

func (t *wiretap) take() (request, reply []byte) {
	t.Lock()
	defer t.Unlock()
	request, reply = t.request, t.reply
	t.request, t.reply = nil, nil
	return
}

func listenIn(target string) (*wiretap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tap := &wiretap{addr: listener.Addr().String()}
	copyAll := func(to, from net.Conn, heard *[]byte) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				to.Close()
				return
			}
			tap.Lock()
			*heard = append(*heard, buffer[:n]...)
			tap.Unlock()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			caller, err := listener.Accept()
			if err != nil {
				return
			}
			var server net.Conn
			for server == nil { // it may not listen yet
				server, _ = net.Dial("tcp", target)
			}
			go copyAll(server, caller, &tap.request)
			go copyAll(caller, server, &tap.reply)
		}
	}()
	return tap, nil
}
