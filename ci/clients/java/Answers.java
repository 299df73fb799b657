import java.util.Collection;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Asks a broker everything that the Java AdminClient can ask of one node, in the same order each time, and prints one line for each field
 * of each answer: `question TAB field TAB value`. What differs from run to run (ids, times, ports, sizes) is printed as what it has to be.
 * compare.py lays the lines of two brokers beside each other.
 */
final class Answers {
    private static final String TOPIC = "answers";
    private static final String GROUP = "answers-group";
    private static final TopicPartition FIRST = new TopicPartition(TOPIC, 0);
    private final Admin admin;
    private final Map<String, Object> common;

    private Answers(String target) {
        common = Map.of("bootstrap.servers", target, "default.api.timeout.ms", 10_000, "request.timeout.ms", 8_000, "client.id", "answers");
        admin = Admin.create(common);
    }

    public static void main(String[] arguments) throws Exception {
        Answers answers = new Answers(arguments[0]);
        answers.topics();
        answers.configs();
        answers.logs();
        answers.quotas();
        answers.cluster();
        answers.groups();
        answers.placement();
        answers.security();
        answers.ends();
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static void tell(String question, String field, Object value) {
        System.out.println(question + "\t" + field + "\t" + value);
    }

    private interface Asking {
        void ask() throws Exception;
    }

    /** A question that may be refused: then by which exception. */
    private static void ask(String question, Asking asking) {
        try {
            asking.ask();
        } catch (ExecutionException failure) {
            tell(question, "error", failure.getCause().getClass().getSimpleName());
        } catch (Exception failure) {
            tell(question, "error", failure.getClass().getSimpleName());
        }
    }

    private static String ids(Collection<Node> nodes) {
        return nodes.stream().map(node -> "" + node.id()).collect(Collectors.joining(","));
    }

    private static Object presence(Optional<?> value) {
        return value.isPresent() ? "present" : "absent";
    }

    private void produce(int count) throws Exception {
        Map<String, Object> config = new TreeMap<>(common);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int at = 0; at < count; at++) {
                producer.send(new ProducerRecord<>(TOPIC, 0, 1_700_000_000_000L + at, "key", "value " + at)).get();
            }
        }
    }

    private void topics() throws Exception {
        ask("createTopics", () -> {
            NewTopic topic = new NewTopic(TOPIC, 3, (short) 1).configs(Map.of("retention.ms", "-1"));
            CreateTopicsResult created = admin.createTopics(List.of(topic));
            tell("createTopics", "partitions", created.numPartitions(TOPIC).get());
            tell("createTopics", "replication", created.replicationFactor(TOPIC).get());
            entries("createTopics", created.config(TOPIC).get(), false);
        });
        ask("createTopics validate", () -> admin.createTopics(List.of(new NewTopic("valid", 2, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get());
        ask("createTopics again", () -> admin.createTopics(List.of(new NewTopic(TOPIC, 3, (short) 1))).all().get());
        ask("describeTopics", () -> {
            TopicDescription told = admin.describeTopics(List.of(TOPIC), new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames().get().get(TOPIC);
            tell("describeTopics", "internal", told.isInternal());
            tell("describeTopics", "operations", new TreeSet<>(told.authorizedOperations()));
            told.partitions().forEach(part -> tell("describeTopics", "partition " + part.partition(), "leader " + part.leader().id() + " replicas " + ids(part.replicas())
                + " isr " + ids(part.isr()) + " elr " + part.elr() + " last elr " + part.lastKnownElr()));
        });
        ask("describeTopics absent", () -> admin.describeTopics(List.of("absent")).allTopicNames().get());
        ask("listTopics", () -> tell("listTopics", "names", new TreeSet<>(admin.listTopics().names().get())));
        ask("createPartitions", () -> admin.createPartitions(Map.of(TOPIC, NewPartitions.increaseTo(4))).all().get());
        ask("createPartitions fewer", () -> admin.createPartitions(Map.of(TOPIC, NewPartitions.increaseTo(1))).all().get());
        produce(5);
        Map<String, OffsetSpec> specs = new TreeMap<>(Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "max timestamp", OffsetSpec.maxTimestamp(),
            "by time", OffsetSpec.forTimestamp(1_700_000_000_002L), "too late", OffsetSpec.forTimestamp(1_800_000_000_000L), "earliest local", OffsetSpec.earliestLocal(),
            "latest tiered", OffsetSpec.latestTiered()));
        specs.forEach((name, spec) -> ask("listOffsets " + name, () -> tell("listOffsets " + name, "found", admin.listOffsets(Map.of(FIRST, spec)).all().get().get(FIRST))));
        ask("deleteRecords", () -> tell("deleteRecords", "low watermark", admin.deleteRecords(Map.of(FIRST, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(FIRST).get().lowWatermark()));
        ask("deleteRecords beyond", () -> admin.deleteRecords(Map.of(FIRST, RecordsToDelete.beforeOffset(99))).all().get());
    }

    private static void entries(String question, Config config, boolean synonyms) {
        config.entries().stream().sorted(Comparator.comparing(ConfigEntry::name)).forEach(entry -> tell(question, entry.name(), entry.value() + " " + entry.source() + (entry.isReadOnly() ? " read-only" : "")
            + (entry.isSensitive() ? " sensitive" : "") + (synonyms ? " " + entry.type() + " " + entry.synonyms().stream().map(each -> each.source() + ":" + each.name() + "=" + each.value()).toList() : "")));
    }

    private void describe(String question, ConfigResource resource) {
        ask(question, () -> entries(question, admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true)).all().get().get(resource), true));
    }

    private void alter(String question, ConfigResource resource, String name, String value) {
        AlterConfigOp op = new AlterConfigOp(new ConfigEntry(name, value), value == null ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET);
        ask(question, () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all().get());
    }

    private void configs() throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        ConfigResource brokers = new ConfigResource(ConfigResource.Type.BROKER, "");
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, GROUP);
        describe("describeConfigs topic", topic);
        describe("describeConfigs brokers", brokers);
        describe("describeConfigs broker", broker);
        describe("describeConfigs group", group);
        describe("describeConfigs group without a name", new ConfigResource(ConfigResource.Type.GROUP, ""));
        describe("describeConfigs client metrics", new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "m"));
        alter("alter broker", broker, "log.retention.ms", "1111111");
        alter("alter brokers", brokers, "log.retention.ms", "2222222");
        alter("alter brokers size", brokers, "message.max.bytes", "500000");
        alter("alter broker read-only", broker, "num.partitions", "3");
        alter("alter broker unknown", broker, "no.such", "3");
        alter("alter broker bad", broker, "log.retention.ms", "many");
        alter("alter group", group, "consumer.session.timeout.ms", "46000");
        alter("alter group unknown", group, "no.such", "1");
        Thread.sleep(1000);
        ConfigResource[] changed = {broker, brokers, topic};
        for (ConfigResource resource : changed) {
            String question = "after altering " + resource.type() + " '" + resource.name() + "'";
            ask(question, () -> {
                Config all = admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true)).all().get().get(resource);
                entries(question, new Config(all.entries().stream().filter(entry -> entry.name().matches("(log\\.)?retention\\.ms|(max\\.message|message\\.max)\\.bytes")).toList()), true);
            });
        }
        alter("restore broker", broker, "log.retention.ms", null);
        alter("restore brokers", brokers, "log.retention.ms", null);
        alter("restore brokers size", brokers, "message.max.bytes", null);
        ask("listConfigResources", () -> tell("listConfigResources", "all", admin.listConfigResources().all().get().stream().map(Object::toString).collect(Collectors.toCollection(TreeSet::new))));
        ask("listConfigResources groups", () -> tell("listConfigResources groups", "all", admin.listConfigResources(Set.of(ConfigResource.Type.GROUP), new ListConfigResourcesOptions()).all().get()));
    }

    private void logs() {
        ask("describeLogDirs", () -> admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).forEach((path, dir) -> {
            tell("describeLogDirs", "error", dir.error());
            tell("describeLogDirs", "space", (dir.totalBytes().orElse(0) > dir.usableBytes().orElse(0)) + " " + (dir.usableBytes().orElse(0) > 0));
            dir.replicaInfos().entrySet().stream().filter(entry -> entry.getKey().topic().equals(TOPIC)).sorted(Comparator.comparing(entry -> entry.getKey().partition()))
                .forEach(entry -> tell("describeLogDirs", entry.getKey().toString(), (entry.getValue().size() > 0 ? "some bytes" : "empty") + " lag " + entry.getValue().offsetLag() + " future " + entry.getValue().isFuture()));
        }));
        ask("describeReplicaLogDirs", () -> {
            TopicPartitionReplica replica = new TopicPartitionReplica(TOPIC, 0, 1);
            DescribeReplicaLogDirsResult.ReplicaLogDirInfo told = admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica);
            tell("describeReplicaLogDirs", "lag", told.getCurrentReplicaOffsetLag() + " future " + told.getFutureReplicaLogDir());
        });
        ask("alterReplicaLogDirs", () -> {
            String here = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).keySet().iterator().next();
            moved("alterReplicaLogDirs stay", TOPIC, 0, here);
            moved("alterReplicaLogDirs elsewhere", TOPIC, 0, "/elsewhere");
            moved("alterReplicaLogDirs absent", "absent", 0, here);
            moved("alterReplicaLogDirs absent partition", TOPIC, 99, here);
            moved("alterReplicaLogDirs absent elsewhere", "absent", 0, "/elsewhere");
            moved("alterReplicaLogDirs long", "x".repeat(214), 0, here);
            moved("alterReplicaLogDirs longest", "x".repeat(213), 0, here);
        });
        ask("describeProducers", () -> admin.describeProducers(List.of(FIRST)).all().get().get(FIRST).activeProducers().forEach(told -> tell("describeProducers", "producer",
            "epoch " + told.producerEpoch() + " sequence " + told.lastSequence() + " coordinator " + told.coordinatorEpoch() + " transaction " + told.currentTransactionStartOffset())));
        ask("describeProducers absent", () -> admin.describeProducers(List.of(new TopicPartition("absent", 0))).all().get());
        ask("listTransactions", () -> tell("listTransactions", "all", admin.listTransactions().all().get()));
        ask("listTransactions filtered", () -> tell("listTransactions filtered", "all", admin.listTransactions(new ListTransactionsOptions().filterStates(EnumSet.of(TransactionState.ONGOING))
            .filterOnDuration(5)).all().get()));
    }

    private void moved(String question, String topic, int partition, String dir) {
        ask(question, () -> {
            admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica(topic, partition, 1), dir)).all().get();
            tell(question, "done", "yes");
        });
    }

    private void quota(String question, Map<String, String> entity, String key, Double value) {
        ClientQuotaAlteration change = new ClientQuotaAlteration(new ClientQuotaEntity(entity), List.of(new ClientQuotaAlteration.Op(key, value)));
        ask(question, () -> {
            admin.alterClientQuotas(List.of(change)).all().get();
            tell(question, "done", "yes");
        });
    }

    private void quotas() throws Exception {
        Map<String, String> everyUser = new TreeMap<>();
        everyUser.put("user", null);
        Map<String, Map<String, String>> entities = new TreeMap<>(Map.of("client", Map.of("client-id", "c"), "user", Map.of("user", "u"), "pair", Map.of("user", "u", "client-id", "c"), "every user", everyUser));
        for (String key : List.of("producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate")) {
            entities.forEach((name, entity) -> quota("alterClientQuotas " + name + " " + key, entity, key, 12_345_678.0));
        }
        quota("alterClientQuotas unknown key", Map.of("user", "u"), "no_such_rate", 1.0);
        quota("alterClientQuotas fraction of a byte", Map.of("user", "u"), "producer_byte_rate", 1.5);
        quota("alterClientQuotas fraction of time", Map.of("user", "v"), "request_percentage", 1.5);
        quota("alterClientQuotas unknown entity", Map.of("colour", "red"), "producer_byte_rate", 1.0);
        quota("alterClientQuotas empty name", Map.of("user", ""), "producer_byte_rate", 1.0);
        quota("alterClientQuotas no entity", Map.of(), "producer_byte_rate", 1.0);
        quota("alterClientQuotas address", Map.of("ip", "10.0.0.1"), "connection_creation_rate", 10.0);
        quota("alterClientQuotas remove", Map.of("user", "v"), "request_percentage", null);
        quota("alterClientQuotas remove what is not", Map.of("user", "w"), "request_percentage", null);
        Thread.sleep(1000);
        Map<String, ClientQuotaFilter> filters = new TreeMap<>(Map.of("all", ClientQuotaFilter.all(), "of u", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntity("user", "u"))),
            "only of u", ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity("user", "u"))), "default users", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofDefaultEntity("user"))),
            "any client", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntityType("client-id"))), "unknown type", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntityType("colour")))));
        filters.forEach((name, filter) -> ask("describeClientQuotas " + name, () -> admin.describeClientQuotas(filter).entities().get().entrySet().stream()
            .filter(entry -> !entry.getKey().entries().containsKey("ip")).map(entry -> new TreeMap<>(entry.getKey().entries()) + " " + new TreeMap<>(entry.getValue())).sorted()
            .forEach(line -> tell("describeClientQuotas " + name, "entity", line))));
        for (String key : List.of("producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate")) {
            entities.forEach((name, entity) -> quota("restore quota " + name + " " + key, entity, key, null));
        }
    }

    private void cluster() {
        ask("describeCluster", () -> {
            DescribeClusterResult told = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
            tell("describeCluster", "nodes", ids(told.nodes().get()) + " controller " + told.controller().get().id());
            tell("describeCluster", "operations", new TreeSet<>(told.authorizedOperations().get()));
        });
        ask("describeFeatures", () -> {
            FeatureMetadata told = admin.describeFeatures().featureMetadata().get();
            new TreeMap<>(told.finalizedFeatures()).forEach((name, range) -> tell("describeFeatures", "finalized " + name, range));
            new TreeMap<>(told.supportedFeatures()).forEach((name, range) -> tell("describeFeatures", "supported " + name, range));
        });
        ask("describeMetadataQuorum", () -> {
            QuorumInfo told = admin.describeMetadataQuorum().quorumInfo().get();
            tell("describeMetadataQuorum", "leader", told.leaderId());
            tell("describeMetadataQuorum", "epoch", told.leaderEpoch() > 0 ? "positive" : told.leaderEpoch());
            tell("describeMetadataQuorum", "high watermark", told.highWatermark() > 0 ? "positive" : told.highWatermark());
            told.voters().forEach(voter -> tell("describeMetadataQuorum", "voter " + voter.replicaId(), (voter.logEndOffset() > 0 ? "positive" : voter.logEndOffset()) + " fetch " + presenceOf(voter.lastFetchTimestamp())
                + " caught up " + presenceOf(voter.lastCaughtUpTimestamp())));
            tell("describeMetadataQuorum", "observers", told.observers().size());
            tell("describeMetadataQuorum", "nodes", new TreeSet<>(told.nodes().keySet()));
        });
    }

    private static String presenceOf(java.util.OptionalLong value) {
        return value.isPresent() ? "present" : "absent";
    }

    private void groups() throws Exception {
        ask("alterConsumerGroupOffsets", () -> admin.alterConsumerGroupOffsets(GROUP, Map.of(FIRST, new OffsetAndMetadata(4, Optional.of(0), "note"))).all().get());
        ask("listConsumerGroupOffsets", () -> tell("listConsumerGroupOffsets", "offsets", admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get()));
        ask("listConsumerGroupOffsets absent", () -> tell("listConsumerGroupOffsets absent", "offsets", admin.listConsumerGroupOffsets("absent").partitionsToOffsetAndMetadata().get()));
        ask("listGroups", () -> admin.listGroups().all().get().stream().map(Object::toString).sorted().forEach(line -> tell("listGroups", "group", line)));
        ask("describeConsumerGroups", () -> tell("describeConsumerGroups", "group", admin.describeConsumerGroups(List.of(GROUP), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get().get(GROUP)
            .toString().replaceAll("authorizedOperations=\\[.*?\\]", "").replaceAll("host=[^,]*, port=\\d+|127\\.0\\.0\\.1:\\d+", "")));
        ask("describeConsumerGroups absent", () -> admin.describeConsumerGroups(List.of("absent")).all().get());
        ask("describeClassicGroups", () -> tell("describeClassicGroups", "group", admin.describeClassicGroups(List.of(GROUP)).all().get().get(GROUP).toString().replaceAll("127\\.0\\.0\\.1:\\d+", "")));
        ask("deleteConsumerGroupOffsets", () -> admin.deleteConsumerGroupOffsets(GROUP, Set.of(FIRST)).all().get());
        ask("deleteConsumerGroupOffsets absent", () -> admin.deleteConsumerGroupOffsets("absent", Set.of(FIRST)).all().get());
        ask("deleteConsumerGroups", () -> admin.deleteConsumerGroups(List.of(GROUP)).all().get());
        ask("deleteConsumerGroups absent", () -> admin.deleteConsumerGroups(List.of("absent")).all().get());
    }

    private void placement() {
        ask("electLeaders", () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(FIRST, new TopicPartition("absent", 0))).partitions().get().forEach((at, error) ->
            tell("electLeaders", at.toString(), error.map(each -> each.getClass().getSimpleName()))));
        ask("electLeaders all", () -> tell("electLeaders all", "results", admin.electLeaders(ElectionType.PREFERRED, null).partitions().get().size()));
        ask("electLeaders unclean", () -> admin.electLeaders(ElectionType.UNCLEAN, Set.of(FIRST)).partitions().get().forEach((at, error) ->
            tell("electLeaders unclean", at.toString(), error.map(each -> each.getClass().getSimpleName()))));
        Map<String, Optional<NewPartitionReassignment>> moves = new TreeMap<>(Map.of("here", Optional.of(new NewPartitionReassignment(List.of(1))), "elsewhere", Optional.of(new NewPartitionReassignment(List.of(7))),
            "twice", Optional.of(new NewPartitionReassignment(List.of(1, 1))), "cancel", Optional.empty()));
        moves.forEach((name, move) -> ask("reassign " + name, () -> {
            admin.alterPartitionReassignments(Map.of(FIRST, move)).all().get();
            tell("reassign " + name, "done", "yes");
        }));
        ask("reassign absent", () -> admin.alterPartitionReassignments(Map.of(new TopicPartition("absent", 0), Optional.empty())).all().get());
        ask("listPartitionReassignments", () -> tell("listPartitionReassignments", "all", admin.listPartitionReassignments().reassignments().get()));
        ask("listPartitionReassignments absent", () -> tell("listPartitionReassignments absent", "all", admin.listPartitionReassignments(Set.of(new TopicPartition("absent", 0))).reassignments().get()));
    }

    private void security() {
        ask("describeAcls", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
        ask("describeUserScramCredentials", () -> tell("describeUserScramCredentials", "users", admin.describeUserScramCredentials().all().get()));
        ask("describeDelegationToken", () -> admin.describeDelegationToken().delegationTokens().get());
    }

    private void ends() {
        ask("deleteTopics", () -> admin.deleteTopics(List.of(TOPIC)).all().get());
        ask("deleteTopics absent", () -> admin.deleteTopics(List.of("absent")).all().get());
    }
}
