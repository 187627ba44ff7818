// The server of Go's standard library: says on its standard output what it was asked.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("listens", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked", r.Method, r.URL.Path)
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(200)
	})))
}
