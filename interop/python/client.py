#!/usr/bin/env python3
"""Apache Thrift for Python: Binary and Compact, buffered and framed, and THeader. usage: client.py HOST PORT"""
import os, sys, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "gen"))
from idl_rpc import IMService
from idl_rpc.ttypes import Message, PullRequest, SendRequest
from thrift.Thrift import TApplicationException, TMessageType
from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol
from thrift.transport import THeaderTransport, TSocket, TTransport

HOST, PORT = sys.argv[1], int(sys.argv[2])
BUFFERED, FRAMED = TTransport.TBufferedTransport, TTransport.TFramedTransport


def unknown_method(client):
    """Calls a method that the service does not have, on the client's connection."""
    client._oprot.writeMessageBegin("Nope", TMessageType.CALL, 7)
    IMService.Send_args(SendRequest(Message())).write(client._oprot)
    client._oprot.writeMessageEnd()
    client._oprot.trans.flush()
    _, kind, number = client._iprot.readMessageBegin()
    assert (kind, number) == (TMessageType.EXCEPTION, 7), (kind, number)
    e = TApplicationException()
    e.read(client._iprot)
    client._iprot.readMessageEnd()
    assert e.type == TApplicationException.UNKNOWN_METHOD, e


def check(protocol, transport, client):
    chat = f"py-{protocol}-{transport}-{time.time_ns()}:b".lower()
    texts = ["1", "2", "3 \r\n and \U0001F980"]
    for text in texts:
        sent = client.Send(SendRequest(Message(chat, text, "b", 0)))
        assert (sent.Code, sent.Msg) == (0, "success"), sent
    for reverse in (False, True):
        page = client.Pull(PullRequest(chat, 0, 2, reverse))
        expected = (texts[::-1] if reverse else texts)[:2]
        assert [m.Text for m in page.Messages] == expected and page.HasMore and page.NextCursor, page
    refused = client.Send(SendRequest(Message("nobody", "x", "b", 0)))
    assert refused.Code == 400 and refused.Msg, refused
    unknown_method(client)
    assert len(client.Pull(PullRequest(chat, 0, 0)).Messages) == 3, "the connection lives"
    print(f"| Apache Thrift 0.22 (Python) | {protocol} | {transport} | passed |")


def main():
    for protocol, kind, strict in (("Binary", TBinaryProtocol.TBinaryProtocol, {}),
                                   ("Binary, old", TBinaryProtocol.TBinaryProtocol, {"strictRead": False, "strictWrite": False}),
                                   ("Compact", TCompactProtocol.TCompactProtocol, {})):
        for transport, wrap in (("buffered", BUFFERED), ("framed", FRAMED)):
            trans = wrap(TSocket.TSocket(HOST, PORT))
            trans.open()
            check(protocol, transport, IMService.Client(kind(trans, **strict)))
            trans.close()
    for protocol, default in (("Binary", THeaderProtocol.THeaderSubprotocolID.BINARY), ("Compact", THeaderProtocol.THeaderSubprotocolID.COMPACT)):
        for transport, zlib in (("THeader", False), ("THeader, zlib", True)):
            socket = TSocket.TSocket(HOST, PORT)
            header = THeaderProtocol.THeaderProtocol(socket, (THeaderTransport.THeaderClientType.HEADERS,), default_protocol=default)
            if zlib:
                header.trans.add_transform(1)
            header.trans.open()
            check(protocol, transport, IMService.Client(header))
            header.trans.close()


main()
