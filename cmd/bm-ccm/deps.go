package main

import (
	_ "github.com/netbox-community/go-netbox/v4"
	_ "github.com/osrg/gobgp/v4/pkg/server"
	_ "github.com/osrg/gobgp/v4/api"
	_ "github.com/osrg/gobgp/v4/pkg/apiutil"
	_ "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/informers"
	_ "k8s.io/client-go/gentype"
	_ "k8s.io/client-go/tools/leaderelection"
	_ "k8s.io/cloud-provider/app"
	_ "k8s.io/cloud-provider/options"
	_ "k8s.io/cloud-provider/fake"
	_ "k8s.io/cloud-provider/controllers/service"
	_ "k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/spf13/cobra"
	_ "go4.org/netipx"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/time/rate"
	_ "k8s.io/client-go/kubernetes/fake"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "sigs.k8s.io/yaml"
	_ "golang.org/x/tools/go/packages"
)

func main() {}
