package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func percentText(p *float64) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%.1f %%", *p)
}

func sizeText(n *int64) string {
	if n == nil {
		return ""
	}
	return bytesText(*n)
}

func newVMMetrics(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "metrics VM", Short: "Show the latest sample of a machine's processor, memory, network and disks", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			m, err := c.VMMetrics(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, m, func(m vm.Metrics) string { return percentText(m.CPUUsage) }, func(m vm.Metrics) [][]string {
				return [][]string{{"processor", percentText(m.CPUUsage)}, {"memory", percentText(m.MemoryUsage)}, {"held on the node", sizeText(m.MemoryRSSBytes)},
					{"sent", sizeText(m.NetworkBytesSent)}, {"received", sizeText(m.NetworkBytesRecv)}, {"disks read", sizeText(m.DiskReadBytes)},
					{"disks written", sizeText(m.DiskWriteBytes)}, {"disks in use", percentText(m.DiskUsagePercentage)}, {"at", clock(m.Time)}}
			})
		},
	}
}

// topAtOnce is how many samples are asked for at a time.
const topAtOnce = 8

type topRow struct {
	name string
	apiclient.Object[vm.Metrics]
}

func newVMTop(e *env) *cobra.Command {
	var most int
	cmd := &cobra.Command{
		Use: "top", Short: "List the machines that run by their use of processors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			vms, err := apiclient.Collect(c.ListVMs(ctx, apiclient.VMFilter{State: string(vm.StateRunning), Most: most}))
			if err != nil {
				return err
			}
			rows, err := samplesOf(ctx, c, vms)
			if err != nil {
				return err
			}
			names, list := map[string]string{}, make([]apiclient.Object[vm.Metrics], len(rows))
			for i, r := range rows {
				names[r.Value.VMID.String()], list[i] = r.name, r.Object
			}
			id := func(m vm.Metrics) string { return m.VMID.String() }
			return printList(e, list, id, []column[vm.Metrics]{
				{"NAME", func(m vm.Metrics) string { return names[id(m)] }},
				{"CPU", func(m vm.Metrics) string { return percentText(m.CPUUsage) }},
				{"MEMORY", func(m vm.Metrics) string { return percentText(m.MemoryUsage) }},
				{"HELD", func(m vm.Metrics) string { return sizeText(m.MemoryRSSBytes) }},
				{"SENT", func(m vm.Metrics) string { return sizeText(m.NetworkBytesSent) }},
				{"RECEIVED", func(m vm.Metrics) string { return sizeText(m.NetworkBytesRecv) }},
				{"READ", func(m vm.Metrics) string { return sizeText(m.DiskReadBytes) }},
				{"WRITTEN", func(m vm.Metrics) string { return sizeText(m.DiskWriteBytes) }},
				{"ID", id},
			})
		},
	}
	cmd.Flags().IntVar(&most, "limit", 100, "only the newest so many machines; 0 lists all")
	return cmd
}

// samplesOf gives the samples that there are, the busiest first. Machines that were not measured yet, or have gone off, are left out.
func samplesOf(ctx context.Context, c *apiclient.Client, vms []apiclient.Object[vm.VM]) ([]topRow, error) {
	var (
		mu     sync.Mutex // guards what follows
		rows   = []topRow{}
		failed error
	)
	slots := make(chan struct{}, topAtOnce)
	var asking sync.WaitGroup
	for _, m := range vms {
		slots <- struct{}{}
		asking.Go(func() { // ends with the request
			defer func() { <-slots }()
			sample, err := c.VMMetrics(ctx, m.Value.ID)
			mu.Lock()
			defer mu.Unlock()
			var refused *apiclient.Error
			switch {
			case err == nil:
				rows = append(rows, topRow{m.Value.Name, sample})
			case errors.As(err, &refused) && (refused.Code == vm.ErrNoMetrics.Code || refused.Status == http.StatusConflict || refused.Status == http.StatusNotFound):
			default:
				failed = err
			}
		})
	}
	asking.Wait()
	if failed != nil {
		return nil, failed
	}
	usage := func(r topRow) float64 {
		if r.Value.CPUUsage == nil {
			return -1
		}
		return *r.Value.CPUUsage
	}
	slices.SortFunc(rows, func(a, b topRow) int {
		return cmp.Or(cmp.Compare(usage(b), usage(a)), cmp.Compare(a.name, b.name))
	})
	return rows, nil
}
