package com.example.track;

import com.example.matyan.common.v1.Limits;
import com.example.matyan.common.v1.LogPosition;
import com.example.matyan.common.v1.Outcome;
import com.example.matyan.common.v1.OutcomeKind;
import com.example.matyan.ingest.v1.CreateRun;
import com.example.matyan.ingest.v1.Event;
import com.example.matyan.ingest.v1.FinishRun;
import com.example.matyan.ingest.v1.IngestServiceGrpc;
import com.example.matyan.ingest.v1.IngestionBatch;
import com.example.matyan.ingest.v1.LogParams;
import com.example.matyan.ingest.v1.Points;
import com.example.matyan.ingest.v1.Rejection;
import com.example.matyan.ingest.v1.SeriesDef;
import com.example.matyan.ingest.v1.SetRunProperty;
import com.example.matyan.ingest.v1.StreamBatch;
import com.example.matyan.ingest.v1.StreamOpen;
import com.example.matyan.ingest.v1.StreamRequest;
import com.example.matyan.ingest.v1.StreamResponse;
import com.example.matyan.runs.v1.Run;
import com.example.matyan.runs.v1.RunParts;
import com.example.matyan.search.v1.MetricsRequest;
import com.example.matyan.search.v1.MetricsResponse;
import com.example.matyan.search.v1.Query;
import com.example.matyan.search.v1.RunMetrics;
import com.example.matyan.search.v1.SearchServiceGrpc;
import com.example.matyan.series.v1.PointColumns;
import com.fasterxml.jackson.dataformat.cbor.databind.CBORMapper;
import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.net.URI;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/** Tracks a run over gRPC, searches for it, and prints what was found. */
public final class Track {
  private static final URI INGEST_URL = variable("MATYAN_FRONTIER_URL", "http://127.0.0.1:53801");
  private static final URI QUERY_URL = variable("MATYAN_BACKEND_URL", "http://127.0.0.1:53800");
  private static final String TOKEN = System.getenv().getOrDefault("MATYAN_TOKEN", "");

  private static final Params PARAMS = new Params(new Hparams(0.01, List.of(64, 64)));
  private static final List<Double> LOSSES =
      IntStream.range(0, 1000).mapToObj(step -> Math.exp(-step / 200.0)).toList();
  private static final int STEPS_PER_BATCH = 100;

  /** Points refer to series by their number in this dictionary. */
  private static final IngestionBatch DICTIONARY =
      IngestionBatch.newBuilder()
          .addSeries(SeriesDef.newBuilder().setName("loss").setContext("{\"subset\": \"train\"}"))
          .build();

  /** Connections in a row that fail before the program gives up. A training program would continue. */
  private static final int ATTEMPTS = 5;

  private static final CBORMapper CBOR = new CBORMapper();

  private record Params(Hparams hparams) {}

  private record Hparams(double lr, List<Integer> layers) {}

  private record FoundRun(Run run, List<Double> values) {}

  public static void main(String[] args) throws InterruptedException {
    String runId = HexFormat.of().formatHex(randomId().toByteArray());
    URI server = INGEST_URL;
    try {
      LogPosition position = send(runId, makeBatches());
      server = QUERY_URL;
      FoundRun found = search(runId, position);
      Params params = CBOR.readValue(found.run().getParams().toByteArray(), Params.class);
      List<Double> values = found.values();
      if (!params.equals(PARAMS) || !values.equals(LOSSES)) {
        throw new IOException("run %s is not as it was tracked: %s, %d points".formatted(runId, params, values.size()));
      }
      System.out.printf("run %s of %s: %s%n", runId, found.run().getProps().getExperiment().getName(), params);
      System.out.printf("loss: %d points, from %s to %s%n", values.size(), values.get(0), values.get(values.size() - 1));
    } catch (StatusException | IOException error) {
      String reason = error.getCause() == null ? "" : ": " + error.getCause().getMessage();
      System.err.printf("track: %s: %s%s%n", server, error.getMessage(), reason);
      System.exit(1);
    }
  }

  private static List<ByteString> makeBatches() throws IOException {
    List<ByteString> batches = new ArrayList<>();
    SetRunProperty experiment = SetRunProperty.newBuilder().setExperiment("clients").build();
    LogParams params = LogParams.newBuilder().setValue(ByteString.copyFrom(CBOR.writeValueAsBytes(PARAMS))).build();
    batches.add(
        DICTIONARY.toBuilder()
            .addEvents(Event.newBuilder().setCreateRun(CreateRun.getDefaultInstance()))
            .addEvents(Event.newBuilder().setSetRunProperty(experiment))
            .addEvents(Event.newBuilder().setLogParams(params))
            .build()
            .toByteString());
    for (int start = 0; start < LOSSES.size(); start += STEPS_PER_BATCH) {
      List<Double> values = LOSSES.subList(start, Math.min(start + STEPS_PER_BATCH, LOSSES.size()));
      Points points =
          Points.newBuilder()
              .addAllSeries(Collections.nCopies(values.size(), 0))
              .addAllValues(values)
              .addAllSteps(LongStream.range(start, start + values.size()).boxed().toList())
              .build();
      batches.add(IngestionBatch.newBuilder().addPoints(points).build().toByteString());
    }
    Outcome outcome = Outcome.newBuilder().setKind(OutcomeKind.OUTCOME_KIND_FINISHED).build();
    Event finish = Event.newBuilder().setFinishRun(FinishRun.newBuilder().setOutcome(outcome)).build();
    batches.add(IngestionBatch.newBuilder().addEvents(finish).build().toByteString());
    return batches;
  }

  /**
   * Sends all batches, and returns the position in the log up to which they are stored.
   *
   * <p>Nothing is stored twice: after a lost connection, what was not acknowledged is sent again with the same
   * producer id, the same sequences and the same bytes.
   */
  private static LogPosition send(String runId, List<ByteString> batches)
      throws StatusException, IOException, InterruptedException {
    ByteString producerId = randomId();
    StreamResponse last = StreamResponse.getDefaultInstance();
    int failures = 0;
    ManagedChannel channel = connect(INGEST_URL);
    try {
      while (last.getSequence() < batches.size()) {
        BlockingClientCall<StreamRequest, StreamResponse> stream =
            IngestServiceGrpc.newBlockingV2Stub(channel).stream();
        StreamOpen open = open(runId, producerId, last.getSequence());
        try {
          new Thread(() -> write(stream, open, batches)).start();
          while (stream.hasNext()) {
            last = checked(stream.read());
            failures = 0;
          }
        } catch (StatusException error) {
          failures++;
          if (error.getStatus().getCode() != Status.Code.UNAVAILABLE || failures == ATTEMPTS) {
            throw error;
          }
          Thread.sleep(1000);
        }
      }
      return last.getPosition();
    } finally {
      channel.shutdownNow();
    }
  }

  /** The first message of a stream, which continues after the batches that were acknowledged. */
  private static StreamOpen open(String runId, ByteString producerId, long acknowledged) {
    IngestionBatch known = acknowledged > 0 ? DICTIONARY : IngestionBatch.getDefaultInstance();
    return StreamOpen.newBuilder()
        .setRunId(runId)
        .setProducerId(producerId)
        .setAcknowledged(acknowledged)
        .setDictionary(known.toByteString())
        .build();
  }

  private static void write(
      BlockingClientCall<StreamRequest, StreamResponse> stream, StreamOpen open, List<ByteString> batches) {
    try {
      stream.write(StreamRequest.newBuilder().setOpen(open).build());
      for (int at = (int) open.getAcknowledged(); at < batches.size(); at++) {
        StreamBatch batch = StreamBatch.newBuilder().setSequence(at + 1).setBatch(batches.get(at)).build();
        stream.write(StreamRequest.newBuilder().setBatch(batch).build());
      }
      stream.halfClose();
    } catch (StatusException | InterruptedException error) {
      // The thread that reads gets the reason.
    }
  }

  private static StreamResponse checked(StreamResponse response) throws IOException {
    for (Rejection rejection : response.getRejectionsList()) {
      throw new IOException("the server rejected `%s`: %s".formatted(rejection.getField(), rejection.getReason()));
    }
    return response;
  }

  /** Returns the run with its params, and all points of its loss. */
  private static FoundRun search(String runId, LogPosition position)
      throws StatusException, IOException, InterruptedException {
    MetricsRequest request =
        MetricsRequest.newBuilder()
            .setQuery(Query.newBuilder().setText("run.hash == '%s' and metric.name == 'loss'".formatted(runId)))
            .setParts(RunParts.newBuilder().setProps(true).setParams(true))
            .setDensity(0)
            .setColumns(PointColumns.newBuilder().setValues(true))
            .build();
    // The answer includes everything up to this position.
    Metadata metadata = new Metadata();
    metadata.put(
        Metadata.Key.of("matyan-after", Metadata.ASCII_STRING_MARSHALLER),
        "%d/%d/%d".formatted(position.getLog(), position.getPartition(), position.getOffset()));
    ManagedChannel channel = connect(QUERY_URL);
    try {
      BlockingClientCall<?, MetricsResponse> responses =
          SearchServiceGrpc.newBlockingV2Stub(channel)
              .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
              .metrics(request);
      Run.Builder run = Run.newBuilder();
      List<Double> values = new ArrayList<>();
      while (responses.hasNext()) {
        MetricsResponse response = responses.read();
        // A long series is split over several messages.
        for (RunMetrics piece : response.getRunsList()) {
          run.mergeFrom(piece.getRun());
          piece.getPointsList().forEach(series -> values.addAll(series.getValuesList()));
        }
        if (response.getDone()) {
          return new FoundRun(run.build(), values);
        }
      }
      throw new IOException("the search ended before its last message");
    } finally {
      channel.shutdownNow();
    }
  }

  private static ManagedChannel connect(URI url) {
    ManagedChannelBuilder<?> builder =
        ManagedChannelBuilder.forTarget(url.getAuthority())
            .maxInboundMessageSize(Limits.getDefaultInstance().getMessageBytes());
    if (!TOKEN.isEmpty()) {
      // For a server with access control.
      Metadata metadata = new Metadata();
      metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + TOKEN);
      builder.intercept(MetadataUtils.newAttachHeadersInterceptor(metadata));
    }
    return (url.getScheme().equals("https") ? builder : builder.usePlaintext()).build();
  }

  private static URI variable(String name, String absent) {
    return URI.create(System.getenv().getOrDefault(name, absent));
  }

  private static ByteString randomId() {
    byte[] id = new byte[16];
    new SecureRandom().nextBytes(id);
    return ByteString.copyFrom(id);
  }
}
