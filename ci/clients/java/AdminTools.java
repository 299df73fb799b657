import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import kafka.admin.ConfigCommand;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.tools.BrokerApiVersionsCommand;
import org.apache.kafka.tools.ClientMetricsCommand;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.LeaderElectionCommand;
import org.apache.kafka.tools.LogDirsCommand;
import org.apache.kafka.tools.MetadataQuorumCommand;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.TransactionsCommand;
import org.apache.kafka.tools.reassign.ReassignPartitionsCommand;

/** What operators do with Kafka's own tools besides topics and groups. */
final class AdminTools {
    private final String target;

    AdminTools(String target, Map<String, Driver.Case> cases) {
        this.target = target;
        cases.put("configs_of_brokers", this::brokerConfigs);
        cases.put("quotas_of_clients", this::quotas);
        cases.put("quota_holds_back_a_producer", this::quotaHolds);
        cases.put("log_dirs", this::logDirs);
        cases.put("leader_election", this::leaderElection);
        cases.put("reassign_partitions_list", this::reassignments);
        cases.put("metadata_quorum", this::metadataQuorum);
        cases.put("transactions_list", this::transactions);
        cases.put("client_metrics", this::clientMetrics);
        cases.put("every_api_of_the_admin_tools", this::apiVersions);
    }

    private String[] with(String... arguments) {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", target));
        all.addAll(List.of(arguments));
        return all.toArray(String[]::new);
    }

    private String config(String... arguments) throws Exception {
        return Tool.run(ConfigCommand::main, with(arguments));
    }

    private String topic(String name) throws Exception {
        String topic = Driver.fresh(name);
        Tool.run(TopicCommand::main, with("--create", "--topic", topic, "--partitions", "2"));
        Tool.run("one\ntwo\n", ConsoleProducer::main, with("--topic", topic));
        return topic;
    }

    private void brokerConfigs() throws Exception {
        config("--entity-type", "brokers", "--entity-name", "1", "--alter", "--add-config", "log.retention.ms=7654321");
        config("--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "log.retention.ms=8765432");
        String one = config("--entity-type", "brokers", "--entity-name", "1", "--describe");
        Driver.expect(one.contains("log.retention.ms=7654321") && one.contains("DYNAMIC_BROKER_CONFIG:log.retention.ms=7654321")
            && one.contains("DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=8765432"), one);
        String all = config("--entity-type", "brokers", "--entity-default", "--describe");
        Driver.expect(all.contains("log.retention.ms=8765432") && !all.contains("7654321"), all);
        String topic = topic("java-broker-configs");
        String holds = config("--entity-type", "topics", "--entity-name", topic, "--describe", "--all");
        Driver.expect(holds.contains("retention.ms=7654321"), holds);
        config("--entity-type", "brokers", "--entity-name", "1", "--alter", "--delete-config", "log.retention.ms");
        config("--entity-type", "brokers", "--entity-default", "--alter", "--delete-config", "log.retention.ms");
        String none = config("--entity-type", "brokers", "--entity-name", "1", "--describe");
        Driver.expect(!none.contains("log.retention.ms"), none);
    }

    private void quotas() throws Exception {
        String client = Driver.fresh("java-quota");
        config("--entity-type", "clients", "--entity-name", client, "--alter", "--add-config", "producer_byte_rate=1048576,request_percentage=55.5");
        config("--entity-type", "users", "--entity-name", "someone", "--entity-type", "clients", "--entity-default", "--alter", "--add-config",
            "consumer_byte_rate=2048");
        String told = config("--entity-type", "clients", "--entity-name", client, "--describe");
        Driver.expect(told.contains("producer_byte_rate=1048576.0") && told.contains("request_percentage=55.5"), told);
        config("--entity-type", "users", "--describe");
        String pair = config("--entity-type", "users", "--entity-name", "someone", "--entity-type", "clients", "--entity-default", "--describe");
        Driver.expect(pair.contains("consumer_byte_rate=2048.0"), pair);
        config("--entity-type", "clients", "--entity-name", client, "--alter", "--delete-config", "producer_byte_rate,request_percentage");
        config("--entity-type", "users", "--entity-name", "someone", "--entity-type", "clients", "--entity-default", "--alter", "--delete-config",
            "consumer_byte_rate");
        String left = config("--entity-type", "clients", "--entity-name", client, "--describe");
        Driver.expect(!left.contains("producer_byte_rate"), left);
    }

    /** What a window of ten seconds holds may come at once; then the client is told to wait, and is not heard until it has. */
    private void quotaHolds() throws Exception {
        String topic = topic("java-throttled");
        String client = Driver.fresh("java-throttled-client");
        config("--entity-type", "clients", "--entity-name", client, "--alter", "--add-config", "producer_byte_rate=100000");
        long started = System.nanoTime();
        Map<String, Object> settings = Map.of("bootstrap.servers", target, "client.id", client, "linger.ms", 0, "batch.size", 20_000);
        double throttled;
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int sent = 0; sent < 125; sent++) {
                producer.send(new ProducerRecord<>(topic, new byte[9_000])).get();
            }
            throttled = producer.metrics().entrySet().stream().filter(entry -> entry.getKey().name().equals("produce-throttle-time-max"))
                .mapToDouble(entry -> (double) entry.getValue().metricValue()).max().orElse(0);
        }
        double seconds = (System.nanoTime() - started) / 1e9;
        config("--entity-type", "clients", "--entity-name", client, "--alter", "--delete-config", "producer_byte_rate");
        Driver.expect(throttled > 0, "the client was never told to wait");
        Driver.expect(seconds > 0.2 && seconds < 15, "1.1 MB at 100 kB/s, of which 1 MB may come at once, took " + seconds + " s");
    }

    private void logDirs() throws Exception {
        String topic = topic("java-log-dirs");
        String said = Tool.run(LogDirsCommand::main, with("--describe", "--topic-list", topic));
        Driver.expect(said.contains("\"partition\":\"" + topic + "-0\"") && said.contains("\"partition\":\"" + topic + "-1\""), said);
        Driver.expect(said.matches("(?s).*\"size\":[1-9].*") && said.contains("\"offsetLag\":0") && said.contains("\"error\":null"), said);
    }

    private void leaderElection() throws Exception {
        String topic = topic("java-election");
        String said = Tool.run(LeaderElectionCommand::main, with("--election-type", "preferred", "--topic", topic, "--partition", "1"));
        Driver.expect(said.contains("Valid replica already elected for partitions " + topic + "-1"), said);
        Tool.run(LeaderElectionCommand::main, with("--election-type", "unclean", "--all-topic-partitions"));
    }

    private void reassignments() throws Exception {
        String said = Tool.run(ReassignPartitionsCommand::main, with("--list"));
        Driver.expect(said.contains("No partition reassignments found."), said);
        String topic = topic("java-reassign");
        Path plan = Files.createTempFile("reassign", ".json");
        Files.writeString(plan, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"replicas\":[1]}]}");
        String done = Tool.run(ReassignPartitionsCommand::main, with("--execute", "--reassignment-json-file", plan.toString()));
        Driver.expect(done.contains("Successfully started partition reassignment for " + topic + "-0"), done);
        String verified = Tool.run(ReassignPartitionsCommand::main, with("--verify", "--reassignment-json-file", plan.toString()));
        Files.delete(plan);
        Driver.expect(verified.contains("Reassignment of partition " + topic + "-0 is completed."), verified);
    }

    private void metadataQuorum() throws Exception {
        String status = Tool.run(MetadataQuorumCommand::main, with("describe", "--status"));
        Driver.expect(status.matches("(?s).*LeaderId:\\s+1\\s.*") && status.matches("(?s).*HighWatermark:\\s+[1-9].*"), status);
        Driver.expect(status.contains("CurrentVoters:") && status.contains("\"id\": 1"), status);
        String replication = Tool.run(MetadataQuorumCommand::main, with("describe", "--replication"));
        Driver.expect(replication.lines().anyMatch(line -> line.matches("1\\s.*Leader\\s*")), replication);
    }

    private void transactions() throws Exception {
        String said = Tool.run(TransactionsCommand::main, with("list"));
        Driver.expect(said.contains("TransactionalId") && said.strip().lines().count() == 1, said);
        String topic = topic("java-producers");
        String producers = Tool.run(TransactionsCommand::main, with("describe-producers", "--topic", topic, "--partition", "0"));
        Driver.expect(producers.contains("ProducerId") && producers.contains("LastSequence"), producers);
    }

    /** A subscription to metrics of clients is refused with a reason, or it is kept whole, as Kafka does. */
    private void clientMetrics() throws Exception {
        Tool.run(ClientMetricsCommand::main, with("--list"));
        try {
            Tool.run(ClientMetricsCommand::main, with("--alter", "--name", "m", "--metrics", "org.apache.kafka", "--interval", "1000"));
        } catch (Throwable refused) {
            Driver.expect(refused.toString().contains("not served"), refused.toString());
            return;
        }
        String told = Tool.run(ClientMetricsCommand::main, with("--describe", "--name", "m"));
        Tool.run(ClientMetricsCommand::main, with("--delete", "--name", "m"));
        Driver.expect(told.contains("org.apache.kafka") && told.contains("1000"), told);
    }

    private void apiVersions() throws Exception {
        String said = Tool.run(BrokerApiVersionsCommand::main, with());
        for (String api : List.of("AlterConfigs(33)", "AlterReplicaLogDirs(34)", "DescribeLogDirs(35)", "ElectLeaders(43)", "AlterPartitionReassignments(45)",
                "ListPartitionReassignments(46)", "DescribeClientQuotas(48)", "AlterClientQuotas(49)", "DescribeQuorum(55)",
                "DescribeProducers(61)", "DescribeTransactions(65)", "ListTransactions(66)", "ListConfigResources(74)")) {
            Driver.expect(said.lines().anyMatch(line -> line.contains(api + ":") && line.contains("usable:")), api + " is not usable: " + said);
        }
    }
}
