// One binary that holds a whole control plane for tests: etcd, the API server, the controller manager and kubectl,
// each of them as it is released, chosen by the first argument. It decides nothing: flags, files and ports are the
// caller's.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
	_ "time/tzdata" // time zones of CronJobs, wherever this runs

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const (
	// exitWithParent is set by a caller that holds the other end of this process's standard input for as long as it
	// lives. Its end, however it comes (a crash and kill -9 included), closes that pipe, and nobody is left behind.
	exitWithParent = "RIG_EXIT_WITH_PARENT"
	// removeWithParent names a directory that nobody needs after that.
	removeWithParent = "RIG_REMOVE_WITH_PARENT"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	name := os.Args[1]
	os.Args = append([]string{name}, os.Args[2:]...)

	if os.Getenv(exitWithParent) != "" {
		go exitAtEndOfInput()
	}

	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kubectl":
		command := kubectl.NewDefaultKubectlCommand()
		if err := cli.RunNoErrOutput(command); err != nil {
			kubectlutil.CheckErr(err)
		}
	default:
		usage()
	}
}

func exitAtEndOfInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	if directory := os.Getenv(removeWithParent); directory != "" {
		// The other processes of the control plane end at the same time and may still write.
		for range 20 {
			if os.RemoveAll(directory) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	os.Exit(3)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: controlplane etcd|kube-apiserver|kube-controller-manager|kubectl [FLAGS]")
	os.Exit(2)
}
