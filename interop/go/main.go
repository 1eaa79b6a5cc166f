// Apache Thrift for Go: Binary and Compact, buffered and framed, and THeader. usage: apache HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"interop/apache/gen/rpc"
)

func main() {
	var failed error
	header := func(id thrift.THeaderProtocolID, transforms ...thrift.THeaderTransformID) *thrift.TConfiguration {
		return &thrift.TConfiguration{THeaderProtocolID: &id, THeaderTransforms: transforms}
	}
	buffered, framed := thrift.NewTBufferedTransportFactory(4096), thrift.NewTFramedTransportFactoryConf(thrift.NewTTransportFactory(), nil)
	binary, compact := thrift.NewTBinaryProtocolFactoryConf(nil), thrift.NewTCompactProtocolFactoryConf(nil)
	for _, form := range []struct {
		protocol, transport string
		transports          thrift.TTransportFactory
		protocols           thrift.TProtocolFactory
	}{
		{"Binary", "buffered", buffered, binary},
		{"Binary", "framed", framed, binary},
		{"Compact", "buffered", buffered, compact},
		{"Compact", "framed", framed, compact},
		{"Binary", "THeader", thrift.NewTTransportFactory(), thrift.NewTHeaderProtocolFactoryConf(header(thrift.THeaderProtocolBinary))},
		{"Compact", "THeader", thrift.NewTTransportFactory(), thrift.NewTHeaderProtocolFactoryConf(header(thrift.THeaderProtocolCompact))},
		{"Binary", "THeader, zlib", thrift.NewTTransportFactory(), thrift.NewTHeaderProtocolFactoryConf(header(thrift.THeaderProtocolBinary, thrift.TransformZlib))},
	} {
		if err := check(form.protocol+form.transport, form.transports, form.protocols); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s, %s: %w", form.protocol, form.transport, err))
			continue
		}
		fmt.Printf("| Apache Thrift 0.22 (Go) | %s | %s | passed |\n", form.protocol, form.transport)
	}
	if failed != nil {
		fmt.Fprintln(os.Stderr, failed)
		os.Exit(1)
	}
}

func check(name string, transports thrift.TTransportFactory, protocols thrift.TProtocolFactory) error {
	ctx := context.Background()
	transport, err := transports.GetTransport(thrift.NewTSocketConf(os.Args[1], nil))
	if err != nil {
		return err
	}
	if err := transport.Open(); err != nil {
		return err
	}
	defer transport.Close()
	connection := thrift.NewTStandardClient(protocols.GetProtocol(transport), protocols.GetProtocol(transport))
	if strings.Contains(name, "THeader") { // both directions share the header's state
		protocol := protocols.GetProtocol(transport)
		connection = thrift.NewTStandardClient(protocol, protocol)
	}
	client := rpc.NewIMServiceClient(connection)
	chat := fmt.Sprintf("go-%s-%d:b", strings.ReplaceAll(name, ", ", "-"), time.Now().UnixNano())
	send := func(chat, text string) (*rpc.SendResponse, error) {
		return client.Send(ctx, &rpc.SendRequest{Message: &rpc.Message{Chat: chat, Text: text, Sender: "b"}})
	}
	texts := []string{"1", "2", "3 \r\n and \U0001F980"}
	for _, text := range texts {
		if sent, err := send(chat, text); err != nil || sent.Code != 0 || sent.Msg != "success" {
			return fmt.Errorf("Send: %v, %w", sent, err)
		}
	}
	for _, reverse := range []bool{false, true} {
		page, err := client.Pull(ctx, &rpc.PullRequest{Chat: chat, Limit: 2, Reverse: &reverse})
		if err != nil || page.Code != 0 || len(page.Messages) != 2 || !page.GetHasMore() || page.GetNextCursor() == 0 {
			return fmt.Errorf("Pull: %v, %w", page, err)
		}
		expected := slices.Clone(texts)
		if reverse {
			slices.Reverse(expected)
		}
		if page.Messages[0].Text != expected[0] || page.Messages[1].Text != expected[1] {
			return fmt.Errorf("Pull: %v", page.Messages)
		}
	}
	if refused, err := send("nobody", "x"); err != nil || refused.Code != 400 {
		return fmt.Errorf("a caller's error: %v, %w", refused, err)
	}
	var unknown thrift.TApplicationException
	_, err = connection.Call(ctx, "Nope", &rpc.IMServiceSendArgs{Req: &rpc.SendRequest{Message: &rpc.Message{}}}, &rpc.IMServiceSendResult{})
	if !errors.As(err, &unknown) || unknown.TypeId() != thrift.UNKNOWN_METHOD {
		return fmt.Errorf("an unknown method: %w", err)
	}
	if page, err := client.Pull(ctx, &rpc.PullRequest{Chat: chat}); err != nil || len(page.Messages) != 3 {
		return fmt.Errorf("the connection lives: %v, %w", page, err)
	}
	return nil
}
