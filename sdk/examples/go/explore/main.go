// Explore shows the runs that a query finds: as a table of groups, as a live chart, and as a file
// for data tools.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	commonv1 "example.com/track/gen/matyan/common/v1"
	exportv1 "example.com/track/gen/matyan/export/v1"
	runsv1 "example.com/track/gen/matyan/runs/v1"
	searchv1 "example.com/track/gen/matyan/search/v1"
	seriesv1 "example.com/track/gen/matyan/series/v1"
)

const (
	chartedRuns = 50
	chartWidth  = 60
	pageSize    = 1000

	usage = "usage: explore [flags] table | chart | export FILE"
)

var bars = []rune("▁▂▃▄▅▆▇█")

var orders = map[string]searchv1.GroupOrder{
	"values": searchv1.GroupOrder_GROUP_ORDER_VALUES,
	"count":  searchv1.GroupOrder_GROUP_ORDER_COUNT,
	"mean":   searchv1.GroupOrder_GROUP_ORDER_MEAN,
	"min":    searchv1.GroupOrder_GROUP_ORDER_MIN,
	"max":    searchv1.GroupOrder_GROUP_ORDER_MAX,
}

var formats = map[string]exportv1.Format{
	".arrow":   exportv1.Format_FORMAT_ARROW,
	".parquet": exportv1.Format_FORMAT_PARQUET,
	".csv":     exportv1.Format_FORMAT_CSV,
}

type options struct {
	query      string
	metric     *commonv1.SeriesKey
	by         []string
	sort       string
	descending bool
	expand     int
}

func main() {
	// Ctrl-C cancels the call, which also ends its work on the server.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "explore:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := options{metric: &commonv1.SeriesKey{}}
	flag.StringVar(&o.query, "query", "", "MatyanQL, such as `run.hparams.lr < 0.1`")
	flag.StringVar(&o.metric.Name, "metric", "loss", "name of the metric")
	flag.StringVar(&o.metric.Context, "context", `{"subset": "train"}`, "context of the metric, as JSON; an export has all")
	by := flag.String("by", "", "paths of one to three params, separated by commas")
	flag.StringVar(&o.sort, "sort", "values", "order of the table: values, count, mean, min or max")
	flag.BoolVar(&o.descending, "descending", false, "reverse the table")
	flag.IntVar(&o.expand, "expand", 0, "row of the table, from 1, whose runs are listed")
	flag.Parse()
	o.by = strings.Split(*by, ",")

	address := cmp.Or(os.Getenv("MATYAN_BACKEND_URL"), "http://127.0.0.1:53800")
	channel, err := connect(address)
	if err != nil {
		return err
	}
	defer channel.Close()
	switch {
	case flag.Arg(0) == "table" && flag.NArg() == 1:
		err = table(ctx, channel, o)
	case flag.Arg(0) == "chart" && flag.NArg() == 1:
		err = chart(ctx, channel, o)
	case flag.Arg(0) == "export" && flag.NArg() == 2:
		err = export(ctx, channel, o, flag.Arg(1))
	default:
		return errors.New(usage)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// table prints groups of runs, with an aggregate of the last values of the metric.
func table(ctx context.Context, channel *grpc.ClientConn, o options) error {
	order, known := orders[o.sort]
	if !known {
		return fmt.Errorf("unknown order %q", o.sort)
	}
	request := &searchv1.GroupsRequest{
		Query:      &searchv1.Query{Text: o.query},
		Order:      order,
		Descending: o.descending,
		Aggregates: []*searchv1.Aggregate{{
			Of:          &searchv1.Aggregate_Metric{Metric: o.metric},
			MetricValue: searchv1.MetricValue_METRIC_VALUE_LAST,
		}},
	}
	for _, path := range o.by {
		param := &runsv1.ParamPath{Segments: strings.Split(path, ".")}
		request.By = append(request.By, &searchv1.GroupBy{By: &searchv1.GroupBy_Param{Param: param}})
	}
	search := searchv1.NewSearchServiceClient(channel)
	fmt.Printf("%s\truns\tmean\tmin\n", strings.Join(o.by, "\t"))
	for row := 1; ; {
		response, err := search.Groups(ctx, request)
		if err != nil {
			return err
		}
		for _, group := range response.GetGroups() {
			for _, value := range group.GetValues() {
				fmt.Printf("%s\t", groupText(value))
			}
			aggregate := group.GetAggregates()[0]
			fmt.Printf("%d\t%s\t%s\n", group.GetRunCount(), numberText(aggregate.Mean), numberText(aggregate.Min))
			if row == o.expand {
				if err := expand(ctx, search, group.GetToken(), o); err != nil {
					return err
				}
			}
			row++
		}
		if request.Cursor = response.GetNextCursor(); request.Cursor == "" {
			return nil
		}
	}
}

// expand prints the runs of a group, sorted by the last value of the metric.
func expand(ctx context.Context, search searchv1.SearchServiceClient, group string, o options) error {
	request := &searchv1.RunsRequest{
		Query: &searchv1.Query{Text: o.query},
		Group: group,
		Sort: []*searchv1.Sort{{
			By:          &searchv1.Sort_Metric{Metric: o.metric},
			MetricValue: searchv1.MetricValue_METRIC_VALUE_LAST,
			Descending:  o.descending,
		}},
		Parts: &runsv1.RunParts{
			SeriesTypes: []commonv1.SeriesType{commonv1.SeriesType_SERIES_TYPE_METRIC},
			SeriesKeys:  []*commonv1.SeriesKey{o.metric},
		},
		Limit: pageSize,
	}
	for {
		last, err := readRuns(ctx, search, request, func(response *searchv1.RunsResponse) {
			for _, run := range response.GetRuns() {
				value := "-"
				for _, series := range run.GetSeries() {
					value = numberText(series.Last)
				}
				fmt.Printf("\t%s\t%s\n", run.GetRunId(), value)
			}
		})
		if err != nil {
			return err
		}
		// Only the last message has a cursor, and none if there are no more runs.
		if request.Cursor = last.GetNextCursor(); request.Cursor == "" {
			return nil
		}
	}
}

// readRuns receives one page of a search, and returns its last message.
func readRuns(
	ctx context.Context,
	search searchv1.SearchServiceClient,
	request *searchv1.RunsRequest,
	receive func(*searchv1.RunsResponse),
) (*searchv1.RunsResponse, error) {
	stream, err := search.Runs(ctx, request)
	if err != nil {
		return nil, err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the search ended before its last message")
		}
		if err != nil {
			return nil, err
		}
		receive(response)
		if response.GetDone() {
			return response, nil
		}
	}
}

func groupText(value *searchv1.GroupValue) string {
	switch value := value.GetValue().(type) {
	case *searchv1.GroupValue_Text:
		return value.Text
	case *searchv1.GroupValue_Integer:
		return strconv.FormatInt(value.Integer, 10)
	case *searchv1.GroupValue_Number:
		return numberText(&value.Number)
	case *searchv1.GroupValue_Flag:
		return strconv.FormatBool(value.Flag)
	default:
		return "-"
	}
}

func numberText(number *float64) string {
	if number == nil {
		return "-"
	}
	return strconv.FormatFloat(*number, 'g', -1, 64)
}

// chart draws the newest runs until Ctrl-C, and continues after a lost connection.
func chart(ctx context.Context, channel *grpc.ClientConn, o options) error {
	request := &searchv1.RunsRequest{Query: &searchv1.Query{Text: o.query}, Limit: chartedRuns, IdsOnly: true}
	var selections []*seriesv1.RunSelection
	_, err := readRuns(ctx, searchv1.NewSearchServiceClient(channel), request, func(response *searchv1.RunsResponse) {
		for _, id := range response.GetRunIds() {
			selection := &seriesv1.RunSelection{RunId: id, Keys: []*commonv1.SeriesKey{o.metric}}
			selections = append(selections, selection)
		}
	})
	if err != nil {
		return err
	}
	if len(selections) == 0 {
		return errors.New("no run matches the query")
	}
	series := seriesv1.NewSeriesServiceClient(channel)
	for {
		err := follow(ctx, series, selections)
		if status.Code(err) != codes.Unavailable {
			return err
		}
		fmt.Fprintf(os.Stderr, "explore: %v; connecting again\n", err)
		time.Sleep(time.Second)
	}
}

// points of a run. Their steps ascend.
type points struct {
	steps  []int64
	values []float64
}

// add appends the points after the last one; others have been read already.
func (p *points) add(piece *seriesv1.SeriesPoints) {
	first := 0
	if count := len(p.steps); count > 0 {
		first, _ = slices.BinarySearch(piece.GetSteps(), p.steps[count-1]+1)
	}
	p.steps = append(p.steps, piece.GetSteps()[first:]...)
	p.values = append(p.values, piece.GetValues()[first:]...)
}

// follow receives points until the server stops. Changes that were made without a connection are
// not reported, so all points are received again.
func follow(ctx context.Context, series seriesv1.SeriesServiceClient, selections []*seriesv1.RunSelection) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := series.Follow(ctx, &seriesv1.FollowRequest{Runs: selections})
	if err != nil {
		return err
	}
	runs := make([]points, len(selections))
	for caughtUp := false; ; {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, piece := range response.GetSeries() {
			runs[piece.GetPlace().GetRun()].add(piece)
		}
		for _, place := range response.GetStale() {
			if runs[place.GetRun()], err = read(ctx, series, selections[place.GetRun()]); err != nil {
				return err
			}
		}
		// Until then, the terminal has the points of before. Later, an empty message only keeps
		// the connection alive.
		caughtUp = caughtUp || response.GetCaughtUp()
		if caughtUp && !proto.Equal(response, &seriesv1.FollowResponse{}) {
			draw(selections, runs)
		}
	}
}

// read returns all points of a run.
func read(
	ctx context.Context,
	series seriesv1.SeriesServiceClient,
	selection *seriesv1.RunSelection,
) (points, error) {
	var found points
	stream, err := series.Sample(ctx, &seriesv1.SampleRequest{Runs: []*seriesv1.RunSelection{selection}})
	if err != nil {
		return found, err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		for _, piece := range response.GetSeries() {
			found.add(piece)
		}
	}
}

func draw(selections []*seriesv1.RunSelection, runs []points) {
	var frame strings.Builder
	if output, err := os.Stdout.Stat(); err == nil && output.Mode()&os.ModeCharDevice != 0 {
		frame.WriteString("\x1b[H\x1b[J")
	}
	total := 0
	for _, run := range runs {
		total += len(run.steps)
	}
	fmt.Fprintf(&frame, "%d runs, %d points\n", len(runs), total)
	for i, run := range runs {
		step, last := "-", "-"
		if count := len(run.steps); count > 0 {
			step, last = strconv.FormatInt(run.steps[count-1], 10), numberText(&run.values[count-1])
		}
		fmt.Fprintln(&frame, selections[i].GetRunId(), sparkline(run.values), step, last)
	}
	os.Stdout.WriteString(frame.String())
}

// sparkline returns a bar for each of some values, spread evenly.
func sparkline(values []float64) string {
	width := min(len(values), chartWidth)
	shown := make([]float64, width)
	for i := range shown {
		shown[i] = values[i*len(values)/width]
	}
	finite := slices.DeleteFunc(slices.Clone(shown), func(value float64) bool {
		return math.IsNaN(value) || math.IsInf(value, 0)
	})
	line := []rune(strings.Repeat(" ", chartWidth))
	if len(finite) == 0 {
		return string(line)
	}
	low, high := slices.Min(finite), slices.Max(finite)
	for i, value := range shown {
		if share := (value - low) / max(high-low, math.SmallestNonzeroFloat64); share >= 0 && share <= 1 {
			line[i] = bars[int(math.Round(share*float64(len(bars)-1)))]
		}
	}
	return string(line)
}

// export writes all points of the metric to a file, which gets its name once it is complete.
func export(ctx context.Context, channel *grpc.ClientConn, o options, output string) error {
	format, known := formats[filepath.Ext(output)]
	if !known {
		return errors.New("the file name must end with .parquet, .arrow or .csv")
	}
	stream, err := exportv1.NewExportServiceClient(channel).Metrics(ctx, &exportv1.MetricsRequest{
		Query:  &searchv1.Query{Text: o.query, ReportProgress: true},
		Names:  []string{o.metric.GetName()},
		Format: format,
	})
	if err != nil {
		return err
	}
	part := output + ".part"
	file, err := os.Create(part)
	if err != nil {
		return err
	}
	rows, err := receiveFile(stream, file)
	if err = errors.Join(err, file.Close()); err != nil {
		// An export cannot be continued, so an incomplete file is of no use.
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, output); err != nil {
		return err
	}
	fmt.Printf("%s: %d rows\n", output, rows)
	return nil
}

// receiveFile writes the pieces of a file, and returns the number of its rows.
func receiveFile(stream exportv1.ExportService_MetricsClient, file io.Writer) (uint64, error) {
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, errors.New("the export ended before its last piece")
		}
		if err != nil {
			return 0, err
		}
		piece := response.GetPiece()
		if _, err := file.Write(piece.GetData()); err != nil {
			return 0, err
		}
		progress := piece.GetProgress()
		fmt.Fprintf(os.Stderr, "%d rows, %d of %d runs\r", piece.GetRows(), progress.GetChecked(), progress.GetTotal())
		if piece.GetDone() {
			return piece.GetRows(), nil
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
	dialing := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(limit)),
	}
	if token := os.Getenv("MATYAN_TOKEN"); token != "" {
		dialing = append(dialing, grpc.WithPerRPCCredentials(bearerToken(token)))
	}
	return grpc.NewClient(server.Host, dialing...)
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
