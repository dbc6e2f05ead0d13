import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The command line and the output that all clients of this directory share; README.md describes them. */
final class Reader {
    private static final Pattern ID = Pattern.compile("\"id\":(\\d+)");
    private static final Pattern PENDING = Pattern.compile("\"pending\":(\\d+)");

    final String url;
    private final String mode;
    private final long count;
    private final long pauseMs;
    private long received = 0;
    private long pending = Long.MAX_VALUE;

    Reader(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            options.put(arguments[at], arguments[at + 1]);
        }
        url = options.get("--url");
        mode = options.get("--mode");
        count = Long.parseLong(options.getOrDefault("--count", "0"));
        pauseMs = Long.parseLong(options.getOrDefault("--pause-ms", "0"));
    }

    /** Reports one event and pauses; true once the client is to close. */
    boolean take(String text) {
        if (text.contains("\"type\":\"connection_status\"")) {
            Matcher found = PENDING.matcher(text);
            if (found.find()) {
                pending = Long.parseLong(found.group(1));
                report("status " + pending);
            }
        } else {
            // The last one: the event's own id comes after the message.
            Matcher found = ID.matcher(text);
            if (found.find(Math.max(0, text.lastIndexOf("\"id\":")))) {
                received += 1;
                report("id " + found.group(1));
                if (mode.equals("slow") || (mode.equals("block") && received == count)) {
                    sleep(pauseMs);
                }
            }
        }
        if (mode.equals("close")) {
            return received >= pending;
        }
        return mode.equals("drain") && count > 0 && received >= count;
    }

    static void report(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
