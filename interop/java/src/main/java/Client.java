import java.util.*;
import org.apache.thrift.*;
import org.apache.thrift.protocol.*;
import org.apache.thrift.transport.*;
import org.apache.thrift.transport.layered.TFramedTransport;

/** Apache Thrift for Java: Binary and Compact, unframed and framed. Arguments: HOST PORT */
public class Client {
    public static void main(String[] args) throws Exception {
        for (boolean compact : new boolean[] {false, true}) {
            for (boolean framed : new boolean[] {false, true}) {
                TTransport socket = new TSocket(args[0], Integer.parseInt(args[1]));
                TTransport transport = framed ? new TFramedTransport(socket) : socket;
                transport.open();
                check(compact ? new TCompactProtocol(transport) : new TBinaryProtocol(transport));
                transport.close();
                System.out.printf("| Apache Thrift 0.17 (Java) | %s | %s | passed |%n",
                        compact ? "Compact" : "Binary", framed ? "framed" : "buffered");
            }
        }
    }

    static void check(TProtocol protocol) throws Exception {
        IMService.Client client = new IMService.Client(protocol);
        String chat = "java-" + System.nanoTime() + ":b";
        List<String> texts = new ArrayList<>(List.of("1", "2", "3 \r\n and \uD83E\uDD80"));
        for (String text : texts) {
            SendResponse sent = client.Send(request(chat, text));
            expect(sent.Code == 0 && sent.Msg.equals("success"), sent);
        }
        for (boolean reverse : new boolean[] {false, true}) {
            PullRequest request = new PullRequest(chat, 0, 2);
            request.setReverse(reverse);
            PullResponse page = client.Pull(request);
            List<String> found = page.Messages.stream().map(m -> m.Text).toList();
            expect(found.equals(texts.subList(0, 2)) && page.HasMore && page.NextCursor > 0, page);
            Collections.reverse(texts);
        }
        expect(client.Send(request("nobody", "x")).Code == 400, "a caller's error");
        protocol.writeMessageBegin(new TMessage("Nope", TMessageType.CALL, 7));
        new IMService.Send_args(request(chat, "x")).write(protocol);
        protocol.writeMessageEnd();
        protocol.getTransport().flush();
        TMessage answer = protocol.readMessageBegin();
        TApplicationException e = TApplicationException.readFrom(protocol);
        protocol.readMessageEnd();
        expect(answer.type == TMessageType.EXCEPTION && answer.seqid == 7, answer);
        expect(e.getType() == TApplicationException.UNKNOWN_METHOD, e);
        expect(client.Pull(new PullRequest(chat, 0, 0)).Messages.size() == 3, "the connection lives");
    }

    static SendRequest request(String chat, String text) {
        return new SendRequest(new Message(chat, text, "b", 0));
    }

    static void expect(boolean holds, Object what) {
        if (!holds) throw new AssertionError(what);
    }
}
