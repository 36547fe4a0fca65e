// Resolves credentials with the default chain of AWS's SDK for Go.
// Prints one line: {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ...}.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
)

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	configuration, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	credentials, err := configuration.Credentials.Retrieve(ctx)
	if err != nil {
		log.Fatal(err)
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"accessKeyId":     credentials.AccessKeyID,
		"secretAccessKey": credentials.SecretAccessKey,
		"sessionToken":    credentials.SessionToken,
	})
	if err != nil {
		log.Fatal(err)
	}
}
