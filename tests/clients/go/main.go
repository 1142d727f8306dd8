// Gets a token with golang.org/x/oauth2/clientcredentials and uses it.
//
// Usage: client TOKEN_URL URL SCOPE STYLE, with STYLE header, params or detect, and the client's id and secret in
// CLIENT_ID and CLIENT_SECRET. Prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	log.SetFlags(0)
	styles := map[string]oauth2.AuthStyle{
		"header": oauth2.AuthStyleInHeader,
		"params": oauth2.AuthStyleInParams,
		"detect": oauth2.AuthStyleAutoDetect,
	}
	style, known := styles[os.Args[4]]
	if !known {
		log.Fatalf("unknown style %q", os.Args[4])
	}
	config := clientcredentials.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		TokenURL:     os.Args[1],
		Scopes:       []string{os.Args[3]},
		AuthStyle:    style,
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	token, err := config.Token(ctx)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := oauth2.NewClient(ctx, oauth2.StaticTokenSource(token)).Get(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	report := map[string]any{
		"type":    token.Type(),
		"seconds": time.Until(token.Expiry).Seconds(),
		"scope":   token.Extra("scope"),
		"ok":      answer.StatusCode == http.StatusOK,
		"body":    string(body),
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
}
