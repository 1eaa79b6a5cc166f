// A Kitex client of every transport: Send, Pull both ways, a caller's error. Prints a row of the matrix for each.
// usage: kitex client HOST:PORT | kitex client etcd HOST:PORT | kitex server HOST:PORT [ETCD] | kitex record
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"
	etcd "github.com/kitex-contrib/registry-etcd"

	"interop/kitex/kitex_gen/rpc"
	"interop/kitex/kitex_gen/rpc/imservice"
)

const service = "demo.rpc.server"

var basicInfo = rpcinfo.EndpointBasicInfo{ServiceName: service}

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[0] == "client" && args[1] == "etcd":
		resolver, e := etcd.NewEtcdResolver([]string{args[2]})
		if err = e; err == nil {
			err = check("etcd", client.WithResolver(resolver))
		}
	case len(args) == 2 && args[0] == "client":
		err = transports(args[1])
	case len(args) == 1 && args[0] == "record":
		err = record()
	case len(args) >= 2 && args[0] == "server":
		err = serve(args[1], args[2:])
	default:
		err = errors.New("usage: kitex client [etcd] HOST:PORT | kitex server HOST:PORT [ETCD]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func transports(addr string) error {
	to := client.WithHostPorts(addr)
	return errors.Join(
		check("default", to),
		check("PurePayload", to, client.WithTransportProtocol(transport.PurePayload)),
		check("Framed", to, client.WithTransportProtocol(transport.Framed)),
		check("TTHeader", to, client.WithTransportProtocol(transport.TTHeader), client.WithMetaHandler(transmeta.ClientTTHeaderHandler)),
		check("TTHeaderFramed", to, client.WithTransportProtocol(transport.TTHeaderFramed), client.WithMetaHandler(transmeta.ClientTTHeaderHandler)),
		check("mux", to, client.WithMuxConnection(2)),
	)
}

func check(name string, options ...client.Option) error {
	options = append(options, client.WithRPCTimeout(3*time.Second))
	c, err := imservice.NewClient(service, options...)
	if err == nil {
		err = calls(name, c, options)
	}
	if err != nil {
		return fmt.Errorf("kitex, %s: %w", name, err)
	}
	fmt.Printf("| Kitex (Go) | Binary | %s | passed |\n", name)
	return nil
}

func calls(name string, c imservice.Client, options []client.Option) error {
	ctx := metainfo.WithPersistentValue(context.Background(), "key", "value")
	chat := fmt.Sprintf("kitex-%s-%d:b", name, time.Now().UnixNano())
	for _, text := range []string{"1", "2", "3 \r\n and \U0001F980"} {
		sent, err := c.Send(ctx, &rpc.SendRequest{Message: &rpc.Message{Chat: chat, Text: text, Sender: "b"}})
		if err != nil || sent.Code != 0 || sent.Msg != "success" {
			return fmt.Errorf("Send: %v, %w", sent, err)
		}
	}
	for _, reverse := range []bool{false, true} {
		page, err := c.Pull(ctx, &rpc.PullRequest{Chat: chat, Limit: 2, Reverse: &reverse})
		if err != nil || page.Code != 0 || len(page.Messages) != 2 || !page.GetHasMore() || page.GetNextCursor() == 0 {
			return fmt.Errorf("Pull: %v, %w", page, err)
		}
		first := map[bool]string{false: "1", true: "3 \r\n and \U0001F980"}[reverse]
		if page.Messages[0].Text != first || page.Messages[0].Sender != "b" || page.Messages[0].Chat != chat {
			return fmt.Errorf("Pull: %v", page.Messages[0])
		}
	}
	refused, err := c.Send(ctx, &rpc.SendRequest{Message: &rpc.Message{Chat: "nobody", Text: "x", Sender: "b"}})
	if err != nil || refused.Code != 400 || refused.Msg == "" {
		return fmt.Errorf("a caller's error: %v, %w", refused, err)
	}
	if err := unknownMethod(ctx, options); err != nil {
		return err
	}
	// Many at once: on a mux connection their answers are told apart by their numbers.
	var all sync.WaitGroup
	failed := make(chan error, 50)
	for i := 0; i < 50; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if page, err := c.Pull(ctx, &rpc.PullRequest{Chat: chat, Limit: 10}); err != nil || len(page.Messages) != 3 {
				failed <- fmt.Errorf("side by side: %v, %w", page, err)
			}
		}()
	}
	all.Wait()
	close(failed)
	return <-failed
}

// A client that believes in one method more than the service has.
func unknownMethod(ctx context.Context, options []client.Option) error {
	info := imservice.NewServiceInfo()
	methods := map[string]serviceinfo.MethodInfo{"Nope": info.Methods["Send"]}
	for name, method := range info.Methods {
		methods[name] = method
	}
	info.Methods = methods
	c, err := client.NewClient(info, append([]client.Option{client.WithDestService(service)}, options...)...)
	if err != nil {
		return err
	}
	args := rpc.NewIMServiceSendArgs()
	args.Req = &rpc.SendRequest{Message: &rpc.Message{}}
	err = c.Call(ctx, "Nope", args, rpc.NewIMServiceSendResult())
	if err == nil || !strings.Contains(err.Error(), "unknown method Nope") {
		return fmt.Errorf("an unknown method: %w", err)
	}
	return nil
}

// A Kitex server whose messages live in memory: what http-server is put in front of.
type memory struct {
	sync.Mutex
	messages []*rpc.Message
}

func (m *memory) Send(_ context.Context, req *rpc.SendRequest) (*rpc.SendResponse, error) {
	if req.Message.Chat == "fail:fail" {
		return nil, errors.New("an error of the handler")
	}
	m.Lock()
	defer m.Unlock()
	req.Message.SendTime = int64(len(m.messages) + 1)
	m.messages = append(m.messages, req.Message)
	return &rpc.SendResponse{Code: 0, Msg: "success"}, nil
}

func (m *memory) Pull(_ context.Context, req *rpc.PullRequest) (*rpc.PullResponse, error) {
	m.Lock()
	defer m.Unlock()
	more, next := false, int64(0)
	page := &rpc.PullResponse{Code: 0, Msg: "success", HasMore: &more, NextCursor: &next}
	for _, message := range m.messages {
		if message.Chat == req.Chat {
			page.Messages = append(page.Messages, message)
		}
	}
	return page, nil
}

func serve(listen string, registries []string) error {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return err
	}
	options := []server.Option{server.WithServiceAddr(addr), server.WithMetaHandler(transmeta.ServerTTHeaderHandler)}
	if len(registries) > 0 {
		registry, err := etcd.NewEtcdRegistry(registries)
		if err != nil {
			return err
		}
		options = append(options, server.WithRegistry(registry), server.WithServerBasicInfo(&basicInfo))
	}
	return imservice.NewServer(&memory{}, options...).Run()
}
