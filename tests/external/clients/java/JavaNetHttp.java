import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;

/** The client with the JDK's own java.net.http. */
final class JavaNetHttp implements WebSocket.Listener {
    private final Reader reader;
    private final StringBuilder text = new StringBuilder();
    private final CountDownLatch ended = new CountDownLatch(1);
    private boolean closing = false;

    private JavaNetHttp(Reader reader) {
        this.reader = reader;
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
        text.append(part);
        if (last) {
            String event = text.toString();
            text.setLength(0);
            if (!closing && reader.take(event)) {
                closing = true;
                socket.sendClose(WebSocket.NORMAL_CLOSURE, "");
            }
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        end(code);
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        error.printStackTrace();
        end(1006);
    }

    private void end(int code) {
        Reader.report("closed " + code);
        ended.countDown();
    }

    public static void main(String[] arguments) throws Exception {
        JavaNetHttp client = new JavaNetHttp(new Reader(arguments));
        HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(URI.create(client.reader.url), client).get();
        client.ended.await();
        System.exit(0);
    }
}
