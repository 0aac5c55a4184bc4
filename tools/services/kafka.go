package main

import (
	"context"
	_ "embed"
	"errors"
	"path/filepath"

	"github.com/segmentio/kafka-go"
)

var (
	//go:embed kafka/pom.xml
	kafkaPom string
	//go:embed kafka/jars.sha256
	kafkaSums string
	//go:embed kafka/server.properties
	kafkaProperties string
)

const kafkaCluster = "c3RhbmNoaW9uLXRlc3RzLQ" // 16 bytes in base64, the form of every cluster id

func (s site) kafka() engine {
	const address, control = "127.0.0.1:19292", "127.0.0.1:19293"
	lib := filepath.Join(s.kept("kafka-4.3.1"), "lib")
	java := func(args ...string) []string {
		return append([]string{java17, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", lib + "/*"}, args...)
	}
	e := engine{
		name:      "kafka",
		version:   "4.3.1",
		dir:       s.run("kafka"),
		needs:     javaTools,
		listens:   []string{address, control},
		files:     map[string]string{"server.properties": fill(kafkaProperties, "ADDRESS", address, "CONTROL", control)},
		processes: []process{{name: "kafka", argv: java("kafka.Kafka", "server.properties")}},
		env:       []variable{{"STANCHION_TEST_KAFKA", address}},
	}
	e.obtain = func(ctx context.Context) error { return fetchJars(ctx, kafkaPom, kafkaSums, lib) }
	e.prepare = func(ctx context.Context) error {
		_, err := output(ctx, e.dir, java("kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", "server.properties")...)
		return err
	}
	e.ready = func(ctx context.Context) error {
		client := &kafka.Client{Addr: kafka.TCP(address)}
		if _, err := client.ApiVersions(ctx, &kafka.ApiVersionsRequest{}); err != nil {
			return err
		}
		answer, err := client.Metadata(ctx, &kafka.MetadataRequest{})
		if err != nil {
			return err
		}
		if len(answer.Brokers) != 1 {
			return errors.New("the broker is not registered yet")
		}
		return nil
	}
	return e
}
