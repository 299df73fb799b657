import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.GroupsCommand;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.VerifiableConsumer;
import org.apache.kafka.tools.VerifiableProducer;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;

/** Consumer groups through Kafka's own tools. */
final class Groups {
    private final String target;

    Groups(String target, Map<String, Driver.Case> cases) {
        this.target = target;
        cases.put("console_consumer_in_a_group", this::console);
        cases.put("consumer_groups_tool", this::tool);
        cases.put("offsets_log_by_kafkas_formatters", this::formatters);
        cases.put("verifiable_producer_and_consumer", this::verifiable);
        cases.put("consumer_perf", this::consumerPerf);
    }

    private String[] with(String... arguments) {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", target));
        all.addAll(List.of(arguments));
        return all.toArray(String[]::new);
    }

    private String groups(String... arguments) throws Exception {
        return Tool.run(ConsumerGroupCommand::main, with(arguments));
    }

    /** A topic of one partition with ten lines. */
    private String tenLines(String name) throws Exception {
        String topic = Driver.fresh(name);
        Tool.run(TopicCommand::main, with("--create", "--topic", topic, "--partitions", "1"));
        Tool.run("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", ConsoleProducer::main, with("--topic", topic));
        return topic;
    }

    private String consume(String topic, String group, int count) throws Exception {
        return Tool.run(ConsoleConsumer::main, with("--topic", topic, "--group", group, "--from-beginning", "--max-messages", "" + count,
                "--timeout-ms", "20000"));
    }

    private void console() throws Exception {
        String topic = tenLines("java-group-console");
        String group = Driver.fresh("g");
        String first = consume(topic, group, 10);
        Driver.expect(first.startsWith("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"), first);
        Tool.run("10\n11\n", ConsoleProducer::main, with("--topic", topic));
        String second = consume(topic, group, 2);
        Driver.expect(second.startsWith("10\n11\n"), "it did not go on where it had been: " + second);
    }

    /** The line that describes the group's only partition: its words. */
    private List<String> described(String group) throws Exception {
        String said = groups("--describe", "--group", group);
        return said.lines().filter(line -> line.startsWith(group)).map(line -> List.of(line.trim().split("\\s+"))).findFirst()
                .orElseThrow(() -> new AssertionError(said));
    }

    private void expectOffset(String group, String offset, String lag) throws Exception {
        List<String> words = described(group);
        Driver.expect(words.get(3).equals(offset) && words.get(5).equals(lag), "not " + offset + " with lag " + lag + ": " + words);
    }

    private void reset(String group, String topic, String... how) throws Exception {
        List<String> all = new ArrayList<>(List.of("--reset-offsets", "--group", group, "--topic", topic, "--execute"));
        all.addAll(List.of(how));
        groups(all.toArray(String[]::new));
    }

    private void tool() throws Exception {
        String topic = tenLines("java-groups");
        String group = Driver.fresh("g");
        consume(topic, group, 4);
        Driver.expect(groups("--list").lines().anyMatch(group::equals), "the list lacks " + group);
        Driver.expect(groups("--list", "--state", "Empty").contains(group), "the list of the empty lacks " + group);
        Driver.expect(Tool.run(GroupsCommand::main, with("--list")).contains(group), "kafka-groups lacks " + group);
        Driver.expect(groups("--describe", "--group", group, "--state").contains("Empty"), "its state");
        Driver.expect(groups("--describe", "--group", group, "--members").contains("no active members"), "its members");
        expectOffset(group, "4", "6");
        reset(group, topic, "--to-offset", "2");
        expectOffset(group, "2", "8");
        reset(group, topic, "--to-latest");
        expectOffset(group, "10", "0");
        reset(group, topic, "--shift-by", "-3");
        expectOffset(group, "7", "3");
        reset(group, topic, "--to-datetime", Instant.now().minusSeconds(600).toString().replaceAll("\\.\\d+Z", ".000"));
        expectOffset(group, "0", "10");
        reset(group, topic, "--to-earliest");
        expectOffset(group, "0", "10");
        Driver.expect(consume(topic, group, 10).startsWith("0\n"), "a reset is where the next member begins");
        String deleted = groups("--delete-offsets", "--group", group, "--topic", topic);
        Driver.expect(deleted.contains("Successful"), deleted);
        String gone = groups("--delete", "--group", group);
        Driver.expect(gone.contains("Deletion of requested consumer groups"), gone);
        Driver.expect(groups("--list").lines().noneMatch(group::equals), "it is still listed");
    }

    private void formatters() throws Exception {
        String topic = tenLines("java-formatter");
        String group = Driver.fresh("g");
        consume(topic, group, 10);
        String offsets = read("org.apache.kafka.tools.consumer.OffsetsMessageFormatter");
        Driver.expect(offsets.contains("\"group\":\"" + group + "\",\"topic\":\"" + topic + "\",\"partition\":0"), "no offset of " + group);
        Driver.expect(offsets.contains("\"offset\":10"), offsets);
        String members = read("org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter");
        Driver.expect(members.contains("\"group\":\"" + group + "\"") && members.contains("\"protocol\":\"range\""), "no generation of " + group);
    }

    private String read(String formatter) throws Exception {
        return Tool.run(ConsoleConsumer::main, with("--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "4000",
                "--formatter", formatter));
    }

    private void verifiable() throws Exception {
        String topic = tenLines("java-verifiable");
        Tool.run(VerifiableProducer::main, with("--topic", topic, "--max-messages", "2000", "--acks", "-1"));
        String read = Tool.run(VerifiableConsumer::main, with("--topic", topic, "--group-id", Driver.fresh("g"), "--max-messages", "2010",
                "--reset-policy", "earliest"));
        Driver.expect(read.contains("offsets_committed") && read.contains("\"success\":true"), read);
        Driver.expect(read.contains("\"offset\":2010"), "not everything was committed: " + read.substring(Math.max(0, read.length() - 800)));
    }

    private void consumerPerf() throws Exception {
        String topic = tenLines("java-consumer-perf");
        Tool.run(VerifiableProducer::main, with("--topic", topic, "--max-messages", "4990"));
        String said = Tool.run(ConsumerPerformance::main, with("--topic", topic, "--messages", "5000", "--timeout", "20000"));
        Driver.expect(said.contains("5000") || said.contains(", 50"), said);
    }
}
