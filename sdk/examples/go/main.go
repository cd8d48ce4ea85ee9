// Track records a run over gRPC, searches for it, and prints what was found.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	commonv1 "example.com/track/gen/matyan/common/v1"
	ingestv1 "example.com/track/gen/matyan/ingest/v1"
	runsv1 "example.com/track/gen/matyan/runs/v1"
	searchv1 "example.com/track/gen/matyan/search/v1"
	seriesv1 "example.com/track/gen/matyan/series/v1"
)

const (
	steps         = 1000
	stepsPerBatch = 100

	// Connections in a row that fail before the program gives up. A training program would
	// continue.
	attempts = 5
)

// Points refer to series by their number in this dictionary.
var dictionary = []*ingestv1.SeriesDef{{Name: "loss", Context: `{"subset": "train"}`}}

type params struct {
	Hparams hparams `json:"hparams"`
}

type hparams struct {
	LearningRate float64 `json:"lr"`
	Layers       []int   `json:"layers"`
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "track:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ingestURL := variable("MATYAN_FRONTIER_URL", "http://127.0.0.1:53801")
	queryURL := variable("MATYAN_BACKEND_URL", "http://127.0.0.1:53800")
	runID := hex.EncodeToString(randomID())
	tracked := params{hparams{LearningRate: 0.01, Layers: []int{64, 64}}}
	losses := make([]float64, steps)
	for step := range losses {
		losses[step] = math.Exp(-float64(step) / 200)
	}

	position, err := track(ctx, ingestURL, runID, tracked, losses)
	if err != nil {
		return fmt.Errorf("%s: %w", ingestURL, err)
	}
	found, values, err := search(ctx, queryURL, runID, position)
	if err != nil {
		return fmt.Errorf("%s: %w", queryURL, err)
	}
	var stored params
	if err := cbor.Unmarshal(found.GetParams(), &stored); err != nil {
		return fmt.Errorf("params of run %s: %w", runID, err)
	}
	if !reflect.DeepEqual(stored, tracked) || !slices.Equal(values, losses) {
		return fmt.Errorf("run %s is not as it was tracked: %+v, %d points", runID, stored, len(values))
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	fmt.Printf("run %s of %s: %s\n", runID, found.GetProps().GetExperiment().GetName(), text)
	fmt.Printf("loss: %d points, from %g to %g\n", len(values), values[0], values[len(values)-1])
	return nil
}

// track writes a whole run, and returns the position in the log up to which it is stored.
func track(ctx context.Context, address, runID string, params params, losses []float64) (*commonv1.LogPosition, error) {
	batches, err := makeBatches(params, losses)
	if err != nil {
		return nil, err
	}
	channel, err := connect(address)
	if err != nil {
		return nil, err
	}
	defer channel.Close()
	p := producer{ingest: ingestv1.NewIngestServiceClient(channel), runID: runID, id: randomID(), batches: batches}
	for failures := 0; ; {
		before := p.acknowledged
		err := p.stream(ctx)
		if err == nil {
			return p.position, nil
		}
		if p.acknowledged > before {
			failures = 0
		}
		if failures++; status.Code(err) != codes.Unavailable || failures == attempts {
			return nil, err
		}
		time.Sleep(time.Second)
	}
}

func makeBatches(params params, losses []float64) ([][]byte, error) {
	value, err := cbor.Marshal(params)
	if err != nil {
		return nil, err
	}
	outcome := &commonv1.Outcome{Kind: commonv1.OutcomeKind_OUTCOME_KIND_FINISHED}
	batches := []*ingestv1.IngestionBatch{{
		Series: dictionary,
		Events: []*ingestv1.Event{
			{Kind: &ingestv1.Event_CreateRun{CreateRun: &ingestv1.CreateRun{}}},
			{Kind: &ingestv1.Event_SetRunProperty{SetRunProperty: &ingestv1.SetRunProperty{Experiment: proto.String("clients")}}},
			{Kind: &ingestv1.Event_LogParams{LogParams: &ingestv1.LogParams{Value: value}}},
		},
	}}
	step := int64(0)
	for values := range slices.Chunk(losses, stepsPerBatch) {
		points := &ingestv1.Points{Series: make([]uint32, len(values)), Values: values}
		for range values {
			points.Steps = append(points.Steps, step)
			step++
		}
		batches = append(batches, &ingestv1.IngestionBatch{Points: []*ingestv1.Points{points}})
	}
	batches = append(batches, &ingestv1.IngestionBatch{
		Events: []*ingestv1.Event{{Kind: &ingestv1.Event_FinishRun{FinishRun: &ingestv1.FinishRun{Outcome: outcome}}}},
	})
	encoded := make([][]byte, len(batches))
	for i, batch := range batches {
		if encoded[i], err = proto.Marshal(batch); err != nil {
			return nil, err
		}
	}
	return encoded, nil
}

// producer sends the batches of one run. Nothing is stored twice: after a lost connection, what was
// not acknowledged is sent again with the same producer id, the same sequences and the same bytes.
type producer struct {
	ingest       ingestv1.IngestServiceClient
	runID        string
	id           []byte
	batches      [][]byte
	acknowledged uint64
	position     *commonv1.LogPosition
}

// stream sends what has not been acknowledged, and returns when all of it has been.
func (p *producer) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.ingest.Stream(ctx)
	if err != nil {
		return err
	}
	open, err := p.open()
	if err != nil {
		return err
	}
	// Errors of sending are reported by the receiving side, with their reason.
	go p.send(stream, open)
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) && p.acknowledged == uint64(len(p.batches)) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, rejection := range response.GetRejections() {
			return fmt.Errorf("the server rejected `%s`: %s", rejection.GetField(), rejection.GetReason())
		}
		p.acknowledged, p.position = response.GetSequence(), response.GetPosition()
	}
}

// open returns the first message of a stream, which continues after the batches that were acknowledged.
func (p *producer) open() (*ingestv1.StreamOpen, error) {
	open := &ingestv1.StreamOpen{RunId: p.runID, ProducerId: p.id, Acknowledged: p.acknowledged}
	if p.acknowledged > 0 {
		known, err := proto.Marshal(&ingestv1.IngestionBatch{Series: dictionary})
		if err != nil {
			return nil, err
		}
		open.Dictionary = known
	}
	return open, nil
}

func (p *producer) send(stream ingestv1.IngestService_StreamClient, open *ingestv1.StreamOpen) {
	if stream.Send(&ingestv1.StreamRequest{Message: &ingestv1.StreamRequest_Open{Open: open}}) != nil {
		return
	}
	for i := open.GetAcknowledged(); i < uint64(len(p.batches)); i++ {
		batch := &ingestv1.StreamBatch{Sequence: i + 1, Batch: p.batches[i]}
		if stream.Send(&ingestv1.StreamRequest{Message: &ingestv1.StreamRequest_Batch{Batch: batch}}) != nil {
			return
		}
	}
	stream.CloseSend()
}

// search returns the run with its params, and all points of its loss.
func search(ctx context.Context, address, runID string, position *commonv1.LogPosition) (*runsv1.Run, []float64, error) {
	channel, err := connect(address)
	if err != nil {
		return nil, nil, err
	}
	defer channel.Close()
	// The answer includes everything up to this position.
	after := fmt.Sprintf("%d/%d/%d", position.GetLog(), position.GetPartition(), position.GetOffset())
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "matyan-after", after))
	defer cancel()
	stream, err := searchv1.NewSearchServiceClient(channel).Metrics(ctx, &searchv1.MetricsRequest{
		Query:   &searchv1.Query{Text: fmt.Sprintf("run.hash == %q and metric.name == %q", runID, "loss")},
		Parts:   &runsv1.RunParts{Props: true, Params: true},
		Points:  &searchv1.MetricsRequest_Density{Density: 0},
		Columns: &seriesv1.PointColumns{Values: true},
	})
	if err != nil {
		return nil, nil, err
	}
	found, values := &runsv1.Run{}, []float64(nil)
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, nil, errors.New("the search ended before its last message")
		}
		if err != nil {
			return nil, nil, err
		}
		// A long series is split over several messages.
		for _, piece := range response.GetRuns() {
			proto.Merge(found, piece.GetRun())
			for _, series := range piece.GetPoints() {
				values = append(values, series.GetValues()...)
			}
		}
		if response.GetDone() {
			return found, values, nil
		}
	}
}

func connect(address string) (*grpc.ClientConn, error) {
	server, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	security := insecure.NewCredentials()
	if server.Scheme == "https" {
		security = credentials.NewTLS(nil)
	}
	limit := int((*commonv1.Limits)(nil).GetMessageBytes())
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(limit)),
	}
	if token := os.Getenv("MATYAN_TOKEN"); token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearerToken(token)))
	}
	return grpc.NewClient(server.Host, options...)
}

// A bearerToken is sent with each call, to a server with access control.
type bearerToken string

func (token bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

// RequireTransportSecurity permits a server on this machine, which needs no TLS.
func (bearerToken) RequireTransportSecurity() bool {
	return false
}

func variable(name, absent string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return absent
}

func randomID() []byte {
	id := make([]byte, 16)
	rand.Read(id)
	return id
}
