package guestagent

import "context"

// maxBlocks bounds what of a guest's memory is asked for at once: 2 TiB in blocks of 128 MiB.
const maxBlocks = 16384

// OnlineMemory has the guest take memory up that was plugged into it: kernels that do not so by themselves have it lie there unused. It tells
// whether the guest uses as many bytes as it should have; memory that it was given a moment ago it may not have seen yet.
func (a *Agent) OnlineMemory(ctx context.Context, want int64) (done bool, err error) {
	type block struct {
		Index  uint64 `json:"phys-index"`
		Online bool   `json:"online"`
	}
	var size struct {
		Bytes int64 `json:"size"`
	}
	if err := a.call(ctx, "guest-get-memory-block-info", nil, &size); err != nil {
		return false, err
	}
	look := func() (online int64, offline []block, err error) {
		var all []block
		if err := a.call(ctx, "guest-get-memory-blocks", nil, &all); err != nil {
			return 0, nil, err
		}
		for _, b := range all[:min(len(all), maxBlocks)] {
			if b.Online {
				online++
			} else {
				offline = append(offline, block{b.Index, true})
			}
		}
		return online, offline, nil
	}
	online, offline, err := look()
	if err == nil && len(offline) > 0 {
		if err := a.call(ctx, "guest-set-memory-blocks", map[string]any{"mem-blks": offline}, nil); err != nil {
			return false, err
		}
		online, _, err = look() // refusals of single blocks are in the answer, but what counts is how it is now
	}
	return size.Bytes > 0 && online >= want/size.Bytes, err
}
