import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import kafka.admin.ConfigCommand;
import org.apache.kafka.tools.BrokerApiVersionsCommand;
import org.apache.kafka.tools.ClusterTool;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.DeleteRecordsCommand;
import org.apache.kafka.tools.GetOffsetShell;
import org.apache.kafka.tools.ProducerPerformance;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.consumer.ConsoleConsumer;

/** Kafka's own tools and the Java client against one bootstrap address, all in one process because a start costs more than a case. */
final class Driver {
    interface Case {
        void run() throws Exception;
    }

    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    private final String target;
    private final Map<String, Case> cases = new LinkedHashMap<>();

    private Driver(String target) {
        this.target = target;
        RoundTrips trips = new RoundTrips(target);
        cases.put("topics", this::topics);
        cases.put("configs", this::configs);
        cases.put("console_by_partition", this::console);
        cases.put("get_offsets", this::getOffsets);
        cases.put("delete_records", this::deleteRecords);
        cases.put("producer_perf", this::producerPerf);
        cases.put("broker_api_versions", this::brokerApiVersions);
        cases.put("cluster_id", this::clusterId);
        new Groups(target, cases);
        new AdminTools(target, cases);
        cases.put("client_every_codec", trips::everyCodec);
        cases.put("client_large_records", trips::largeRecords);
        cases.put("client_offsets_for_times", trips::offsetsForTimes);
        cases.put("client_two_partitions_of_many", trips::manyPartitions);
    }

    public static void main(String[] arguments) {
        Tool.install();
        boolean failed = false;
        for (Map.Entry<String, Case> entry : new Driver(arguments[0]).cases.entrySet()) {
            long started = System.nanoTime();
            String outcome = "ok  ";
            String reason = "";
            try {
                entry.getValue().run();
            } catch (Throwable error) {
                failed = true;
                outcome = "FAIL";
                reason = ": " + error;
            }
            Tool.REPORT.printf("  %s java/%s %.1f s%s%n", outcome, entry.getKey(), (System.nanoTime() - started) / 1e9, reason);
        }
        Tool.REPORT.flush();
        Runtime.getRuntime().halt(failed ? 1 : 0);
    }

    static String fresh(String name) {
        return name + "-" + System.nanoTime();
    }

    static void expect(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private String topicTool(String... arguments) throws Exception {
        return Tool.run(TopicCommand::main, with("--bootstrap-server", arguments));
    }

    private String[] with(String option, String... arguments) {
        List<String> all = new ArrayList<>(List.of(option, target));
        all.addAll(List.of(arguments));
        return all.toArray(String[]::new);
    }

    private String create(String name, int partitions) throws Exception {
        String topic = fresh(name);
        topicTool("--create", "--topic", topic, "--partitions", "" + partitions, "--replication-factor", "1");
        return topic;
    }

    private void topics() throws Exception {
        String topic = fresh("java-topics");
        String created = topicTool("--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000");
        expect(created.contains("Created topic " + topic), created);
        expect(topicTool("--list").lines().anyMatch(topic::equals), "the list lacks " + topic);
        String described = topicTool("--describe", "--topic", topic);
        expect(described.contains("PartitionCount: 3") && described.contains("ReplicationFactor: 1"), described);
        expect(described.contains("retention.ms=3600000"), described);
        expect(described.lines().filter(line -> line.contains("Leader: 1")).count() == 3, described);
        topicTool("--alter", "--topic", topic, "--partitions", "5");
        expect(topicTool("--describe", "--topic", topic).contains("PartitionCount: 5"), "still three partitions");
        topicTool("--delete", "--topic", topic);
        for (int tries = 0; topicTool("--list").lines().anyMatch(topic::equals); tries++) {
            expect(tries < 100, "the topic is still listed");
            Thread.sleep(100);
        }
    }

    private String configTool(String topic, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--entity-type", "topics", "--entity-name", topic));
        all.addAll(List.of(arguments));
        return Tool.run(ConfigCommand::main, with("--bootstrap-server", all.toArray(String[]::new)));
    }

    private void configs() throws Exception {
        String topic = create("java-configs", 1);
        configTool(topic, "--alter", "--add-config", "retention.ms=7200000,max.message.bytes=20000");
        String changed = configTool(topic, "--describe");
        expect(changed.contains("retention.ms=7200000") && changed.contains("max.message.bytes=20000"), changed);
        configTool(topic, "--alter", "--delete-config", "max.message.bytes");
        String all = configTool(topic, "--describe", "--all");
        expect(all.contains("max.message.bytes=1048588") && all.contains("segment.bytes=1073741824"), all);
        expect(all.contains("DYNAMIC_TOPIC_CONFIG:retention.ms=7200000"), all);
    }

    private String offsets(String topic, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--topic", topic));
        all.addAll(List.of(arguments));
        return Tool.run(GetOffsetShell::main, with("--bootstrap-server", all.toArray(String[]::new))).strip();
    }

    private void console() throws Exception {
        String topic = create("java-console", 1);
        int written = 0;
        for (String codec : CODECS) {
            StringBuilder lines = new StringBuilder();
            StringBuilder expected = new StringBuilder();
            for (int number = 0; number < 50; number++) {
                lines.append("h:").append(number).append("\tkey ").append(number).append("\tvalue ").append(codec).append('\n');
                expected.append("Partition:0\tOffset:").append(written + number).append("\th:").append(number).append("\tkey ")
                        .append(number).append("\tvalue ").append(codec).append('\n');
            }
            Tool.run(lines.toString(), ConsoleProducer::main, with("--bootstrap-server", "--topic", topic, "--compression-codec", codec,
                    "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"));
            String read = Tool.run(ConsoleConsumer::main, with("--bootstrap-server", "--topic", topic, "--partition", "0",
                    "--offset", "" + written, "--max-messages", "50", "--timeout-ms", "20000",
                    "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true",
                    "--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true"));
            expect(read.startsWith(expected.toString()), codec + ": " + read);
            written += 50;
        }
    }

    private void getOffsets() throws Exception {
        String topic = create("java-offsets", 2);
        Tool.run("a\nb\nc\n", ConsoleProducer::main, with("--bootstrap-server", "--topic", topic));
        long sum = offsets(topic).lines().mapToLong(line -> Long.parseLong(line.split(":")[2])).sum();
        expect(sum == 3, "three records, but offsets " + offsets(topic));
        expect(offsets(topic, "--time", "-2").equals(topic + ":0:0\n" + topic + ":1:0"), offsets(topic, "--time", "-2"));
        expect(offsets(topic, "--time", "max-timestamp").contains(topic), "no offset of the largest timestamp");
        expect(offsets(topic, "--time", "" + (System.currentTimeMillis() - 60_000)).contains(topic), "no offset by time");
    }

    private void deleteRecords() throws Exception {
        String topic = create("java-delete", 1);
        Tool.run("a\nb\nc\nd\n", ConsoleProducer::main, with("--bootstrap-server", "--topic", topic));
        Path plan = Files.createTempFile("delete-records", ".json");
        Files.writeString(plan, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":3}]}");
        String said = Tool.run(DeleteRecordsCommand::main, with("--bootstrap-server", "--offset-json-file", plan.toString()));
        Files.delete(plan);
        expect(said.contains("low_watermark: 3"), said);
        expect(offsets(topic, "--time", "earliest").equals(topic + ":0:3"), offsets(topic, "--time", "earliest"));
    }

    private void producerPerf() throws Exception {
        String topic = create("java-perf", 4);
        String said = Tool.run(ProducerPerformance::main, with("--bootstrap-server", "--topic", topic, "--num-records", "20000",
                "--record-size", "1024", "--throughput", "-1"));
        expect(said.contains("20000 records sent"), said);
        long sum = offsets(topic).lines().mapToLong(line -> Long.parseLong(line.split(":")[2])).sum();
        expect(sum == 20000, sum + " records arrived of 20000: duplicates or losses");
    }

    private void brokerApiVersions() throws Exception {
        String said = Tool.run(BrokerApiVersionsCommand::main, with("--bootstrap-server"));
        for (String api : List.of("Produce(0)", "Fetch(1)", "ListOffsets(2)", "Metadata(3)", "ApiVersions(18)", "CreateTopics(19)",
                "InitProducerId(22)", "DescribeConfigs(32)")) {
            expect(said.lines().anyMatch(line -> line.contains(api + ":") && line.contains("usable:")), api + " is not usable: " + said);
        }
    }

    private void clusterId() throws Exception {
        String said = Tool.run(ClusterTool::main, "cluster-id", "--bootstrap-server", target);
        expect(said.matches("(?s).*Cluster ID: [\\w-]{10,}\\s*"), said);
    }
}
