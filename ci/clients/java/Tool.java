import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/** Runs Kafka's command line tools within this process, as their scripts would, and returns what they print. */
final class Tool {
    /** A tool's `main`. */
    interface Main {
        void run(String[] arguments) throws Exception;
    }

    /** What a tool's call of exit becomes; some tools catch it and call exit again, so the first code counts. */
    private static final class Ended extends RuntimeException {
        Ended() {
            super(null, null, false, false);
        }
    }

    static final PrintStream REPORT = System.out;
    private static final ByteArrayOutputStream OUTPUT = new ByteArrayOutputStream();
    private static final List<Runnable> HOOKS = new ArrayList<>();

    private static volatile Integer firstCode;

    private Tool() {}

    /** Must be called before any tool's class is loaded, since some keep the standard streams. */
    static void install() {
        PrintStream captured = new PrintStream(new OutputStream() {
            @Override
            public synchronized void write(int octet) {
                OUTPUT.write(octet);
            }

            @Override
            public synchronized void write(byte[] octets, int offset, int count) {
                OUTPUT.write(octets, offset, count);
            }
        }, true);
        System.setOut(captured);
        System.setErr(captured);
        Exit.Procedure end = (code, message) -> {
            firstCode = firstCode == null ? Integer.valueOf(code) : firstCode;
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
    }

    /** Runs a tool to its end; fails unless it succeeded. */
    static String run(Main main, String... arguments) throws Exception {
        return run("", main, arguments);
    }

    /** The same with something on its standard input. */
    static String run(String input, Main main, String... arguments) throws Exception {
        OUTPUT.reset();
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        firstCode = null;
        try {
            main.run(arguments);
        } catch (Ended ended) {
            // The code tells how it ended.
        }
        HOOKS.forEach(Runnable::run);
        HOOKS.clear();
        String output = OUTPUT.toString(StandardCharsets.UTF_8);
        if (firstCode != null && firstCode != 0) {
            throw new AssertionError(String.join(" ", arguments) + " ended with " + firstCode + ": " + output);
        }
        return output;
    }
}
