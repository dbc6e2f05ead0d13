import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

/** The client with OkHttp. */
final class OkHttpReader extends WebSocketListener {
    private final Reader reader;
    private final CountDownLatch ended = new CountDownLatch(1);
    private boolean closing = false;

    private OkHttpReader(Reader reader) {
        this.reader = reader;
    }

    @Override
    public void onMessage(WebSocket socket, String text) {
        if (!closing && reader.take(text)) {
            closing = true;
            socket.close(1000, null);
        }
    }

    @Override
    public void onClosing(WebSocket socket, int code, String reason) {
        socket.close(1000, null);
        end(code);
    }

    @Override
    public void onFailure(WebSocket socket, Throwable error, Response response) {
        error.printStackTrace();
        end(1006);
    }

    private void end(int code) {
        Reader.report("closed " + code);
        ended.countDown();
    }

    public static void main(String[] arguments) throws Exception {
        OkHttpReader client = new OkHttpReader(new Reader(arguments));
        OkHttpClient library = new OkHttpClient.Builder().readTimeout(0, TimeUnit.SECONDS).build();
        library.newWebSocket(new Request.Builder().url(client.reader.url).build(), client);
        client.ended.await();
        System.exit(0);
    }
}
