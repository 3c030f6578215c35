// Prints the vectors of ABCI 2.0, vectors.json: every request and response as the engine's own types write them.
// How to run it: README.md beside this file.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/proto/tendermint/crypto"
)

// How the fields of a message are filled.
const (
	zero   = "zero"   // Go's zero values: what an engine sends that sets nothing
	small  = "small"  // each field another value, lists of two
	large  = "large"  // the largest numbers, long bytes, lists of two
	lowest = "lowest" // the smallest numbers, empty but present messages, lists of one
	epoch  = "epoch"  // as small, with the time 0
)

var enumLast = map[string]int64{
	"CheckTxType": 1, "ResponseOfferSnapshot_Result": 5, "ResponseApplySnapshotChunk_Result": 5,
	"ResponseProcessProposal_ProposalStatus": 2, "ResponseVerifyVoteExtension_VerifyStatus": 2,
	"MisbehaviorType": 2, "BlockIDFlag": 3,
}

type filler struct {
	how   string
	count int
}

func (f *filler) next() int { f.count++; return f.count }

func (f *filler) fill(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(map[string]time.Time{
			small: time.Unix(1_700_000_000+int64(f.next()), 123_456_789), large: time.Unix(253_402_300_799, 999_999_999),
			lowest: time.Unix(-62_135_596_800, 0), epoch: time.Unix(0, 0),
		}[f.how].UTC()))
		return
	case time.Duration:
		v.Set(reflect.ValueOf(map[string]time.Duration{
			small: 172_800_000_000_001, large: math.MaxInt64, lowest: math.MinInt64, epoch: -1_500_000_000,
		}[f.how]))
		return
	case crypto.PublicKey:
		key := bytes.Repeat([]byte{byte(f.next())}, 32)
		v.Set(reflect.ValueOf(crypto.PublicKey{Sum: &crypto.PublicKey_Ed25519{Ed25519: key}}))
		return
	}
	lists := map[string]int{small: 2, large: 2, lowest: 1, epoch: 1}
	switch v.Kind() {
	case reflect.String:
		v.SetString(map[string]string{
			small: fmt.Sprintf("text %d", f.next()), large: strings.Repeat("税票é😀", 11), lowest: "", epoch: "\x00",
		}[f.how])
	case reflect.Bool:
		v.SetBool(f.how != lowest)
	case reflect.Int32, reflect.Int64:
		if last, ok := enumLast[v.Type().Name()]; ok {
			v.SetInt(map[string]int64{small: 1, large: last, lowest: 0, epoch: 1}[f.how])
		} else if v.Kind() == reflect.Int32 {
			v.SetInt(map[string]int64{small: int64(f.next()), large: math.MaxInt32, lowest: math.MinInt32, epoch: -1}[f.how])
		} else {
			v.SetInt(map[string]int64{small: int64(f.next()), large: math.MaxInt64, lowest: math.MinInt64, epoch: -1}[f.how])
		}
	case reflect.Uint32:
		v.SetUint(map[string]uint64{small: uint64(f.next()), large: math.MaxUint32, lowest: 0, epoch: 128}[f.how])
	case reflect.Uint64:
		v.SetUint(map[string]uint64{small: uint64(f.next()), large: math.MaxUint64, lowest: 0, epoch: 1 << 63}[f.how])
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			size := map[string]int{small: 3, large: 130, lowest: 0, epoch: 1}[f.how]
			v.SetBytes(bytes.Repeat([]byte{byte(f.next())}, size))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), lists[f.how], lists[f.how]))
		for i := 0; i < v.Len(); i++ {
			f.fill(v.Index(i))
		}
	case reflect.Ptr:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			f.fill(v.Field(i))
		}
	default:
		panic(v.Type())
	}
}

// nanoseconds of a time, of any year
func nanoseconds(t time.Time) *big.Int {
	total := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(1_000_000_000))
	return total.Add(total, big.NewInt(int64(t.Nanosecond())))
}

// plain gives a message as JSON: fields by protobuf's names, bytes in hex, times in nanoseconds, enums as numbers.
func plain(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case time.Time:
		return nanoseconds(value)
	case time.Duration:
		return int64(value)
	case crypto.PublicKey:
		return hex.EncodeToString(value.GetEd25519())
	case []byte:
		return hex.EncodeToString(value)
	}
	switch v.Kind() {
	case reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Slice:
		list := []any{}
		for i := 0; i < v.Len(); i++ {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case reflect.Ptr:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		fields := map[string]any{}
		for i := 0; i < v.NumField(); i++ {
			for _, part := range strings.Split(v.Type().Field(i).Tag.Get("protobuf"), ",") {
				if name, ok := strings.CutPrefix(part, "name="); ok {
					fields[name] = plain(v.Field(i))
				}
			}
		}
		return fields
	}
	return v.Interface()
}

type vector struct {
	Message string `json:"message"`
	Filled  string `json:"filled"`
	Fields  any    `json:"fields"`
	Hex     string `json:"hex"`
}

// written appends the vectors of one oneof's wrapper: the envelope, behind its length.
func written(out []vector, wrapper any) []vector {
	kind := reflect.TypeOf(wrapper).Elem()
	message := kind.Field(0).Type.Elem()
	for _, how := range []string{zero, small, large, lowest, epoch} {
		filled := reflect.New(message)
		if how != zero {
			(&filler{how: how}).fill(filled.Elem())
		}
		holder := reflect.New(kind)
		holder.Elem().Field(0).Set(filled)
		var buffer bytes.Buffer
		var err error
		switch value := holder.Interface().(type) {
		case interface{ Size() int }:
			if strings.HasPrefix(kind.Name(), "Request_") {
				request := &abci.Request{}
				reflect.ValueOf(request).Elem().Field(0).Set(holder)
				err = abci.WriteMessage(request, &buffer)
			} else {
				response := &abci.Response{}
				reflect.ValueOf(response).Elem().Field(0).Set(holder)
				err = abci.WriteMessage(response, &buffer)
			}
		default:
			panic(value)
		}
		if err != nil {
			panic(err)
		}
		out = append(out, vector{message.Name(), how, plain(filled.Elem()), hex.EncodeToString(buffer.Bytes())})
	}
	return out
}

func main() {
	var out []vector
	for _, wrappers := range [][]any{(&abci.Request{}).XXX_OneofWrappers(), (&abci.Response{}).XXX_OneofWrappers()} {
		for _, wrapper := range wrappers {
			switch wrapper.(type) {
			case *abci.Request_InsertTx, *abci.Request_ReapTxs, *abci.Response_InsertTx, *abci.Response_ReapTxs:
				continue // of a mempool of the application's own
			}
			out = written(out, wrapper)
		}
	}
	fmt.Println("[")
	for i, each := range out {
		line, err := json.Marshal(each)
		if err != nil {
			panic(err)
		}
		comma := ","
		if i == len(out)-1 {
			comma = ""
		}
		fmt.Printf("%s%s\n", line, comma)
	}
	fmt.Println("]")
}
