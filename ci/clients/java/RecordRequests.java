import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.NavigableMap;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.DescribeTopicPartitionsRequestData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * Writes the frames that broker/tests/golden/recorded holds: the first argument is the folder, each other one an API key. Every field
 * gets a value of its own, typed by the client's schemas; each version is recorded once with everything that may be absent, and once
 * without. Header and body went through the client's own message classes, which read and wrote them.
 */
final class RecordRequests {
    private static final String CLIENT = "recorder";
    private final boolean full;
    private long counter;

    private RecordRequests(boolean full) {
        this.full = full;
    }

    public static void main(String[] arguments) throws IOException {
        for (int at = 1; at < arguments.length; at++) {
            ApiMessageType api = ApiMessageType.fromApiKey(Short.parseShort(arguments[at]));
            String name = api.newRequest().getClass().getSimpleName().replace("RequestData", "");
            StringBuilder text = new StringBuilder("# " + name + " requests written by the Java client's own classes (kafka-clients "
                + AppInfoParser.getVersion() + "): version, frame without length prefix.\n");
            for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(false); version++) {
                for (boolean full : new boolean[] {true, false}) {
                    byte[] frame = new RecordRequests(full).frame(api, version);
                    text.append(version).append(' ').append(HexFormat.of().formatHex(frame)).append('\n');
                }
            }
            Files.writeString(Path.of(arguments[0], "java-" + AppInfoParser.getVersion() + "-" + name + ".txt"), text);
        }
    }

    private byte[] frame(ApiMessageType api, short version) {
        RequestHeaderData header = new RequestHeaderData()
            .setRequestApiKey(api.apiKey()).setRequestApiVersion(version).setCorrelationId(1000 + version).setClientId(full ? CLIENT : null);
        ByteBuffer first = MessageUtil.toByteBufferAccessor(header, api.requestHeaderVersion(version)).buffer();
        ApiMessage message = api == ApiMessageType.DESCRIBE_TOPIC_PARTITIONS ? partitionsAfterCursor() : read(api, version);
        ByteBuffer second = MessageUtil.toByteBufferAccessor(message, version).buffer();
        return ByteBuffer.allocate(first.remaining() + second.remaining()).put(first).put(second).array();
    }

    private ApiMessage read(ApiMessageType api, short version) {
        ApiMessage message = api.newRequest();
        message.read(new ByteBufferAccessor(filled(api.requestSchemas()[version])), version);
        return message;
    }

    /** Its schema does not know that the cursor may be absent. */
    private ApiMessage partitionsAfterCursor() {
        DescribeTopicPartitionsRequestData request = new DescribeTopicPartitionsRequestData().setResponsePartitionLimit(77);
        for (String name : new String[] {"text-1", "text-2"}) {
            request.topics().add(new DescribeTopicPartitionsRequestData.TopicRequest().setName(name));
        }
        return request.setCursor(full ? new DescribeTopicPartitionsRequestData.Cursor().setTopicName("text-1").setPartitionIndex(5) : null);
    }

    private ByteBuffer filled(Schema schema) {
        Struct struct = struct(schema);
        ByteBuffer buffer = ByteBuffer.allocate(struct.sizeOf());
        struct.writeTo(buffer);
        return buffer.flip();
    }

    private Struct struct(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type));
        }
        return struct;
    }

    private Object value(Type type) {
        counter++;
        if (type instanceof Schema schema) {
            return struct(schema);
        }
        if (type instanceof TaggedFields tagged) {
            NavigableMap<Integer, Object> values = new TreeMap<>();
            if (full) {
                tagged.fields().forEach((tag, field) -> values.put(tag, value(field.type)));
            }
            return values;
        }
        if (type.isNullable() && !full) {
            return null;
        }
        if (type.isArray()) {
            Type element = type.arrayElementType().orElseThrow();
            return new Object[] {value(element), value(element)};
        }
        return scalar(type);
    }

    private Object scalar(Type type) {
        if (type == Type.BOOLEAN) {
            return counter % 2 == 0;
        }
        if (type == Type.INT8) {
            return (byte) (counter % 127);
        }
        if (type == Type.INT16) {
            return (short) (300 + counter);
        }
        if (type == Type.UINT16) {
            return (int) (40_000 + counter);
        }
        if (type == Type.INT32) {
            return (int) (70_000 + counter);
        }
        if (type == Type.UNSIGNED_INT32) {
            return 3_000_000_000L + counter;
        }
        if (type == Type.INT64) {
            return (1L << 40) + counter;
        }
        if (type == Type.FLOAT64) {
            return counter + 0.5;
        }
        if (type == Type.UUID) {
            return new Uuid(0x0102030405060708L, counter);
        }
        String name = type.toString();
        if (name.contains("STRING")) {
            return "text-" + counter;
        }
        if (name.contains("RECORDS")) {
            SimpleRecord record = new SimpleRecord(1_700_000_000_000L, "key".getBytes(), ("value-" + counter).getBytes());
            return MemoryRecords.withRecords(Compression.NONE, record);
        }
        if (name.contains("BYTES")) {
            return ByteBuffer.wrap(new byte[] {1, 2, (byte) counter});
        }
        throw new IllegalStateException("no value for " + type);
    }
}
