package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// galeraProviders is where Galera's library is installed.
var galeraProviders = []string{"/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so", "/usr/lib/libgalera_smm.so"}

// Galera starts a cluster of n MariaDB servers, which stop when the test has ended.
// Each may be killed and started again. Without the library it skips the test, or
// fails it: see RequireVariable.
func Galera(tb testing.TB, n int) []*Server {
	tb.Helper()
	provider := ""
	for _, path := range galeraProviders {
		if _, err := os.Stat(path); err == nil {
			provider = path
			break
		}
	}
	_, err := exec.LookPath("rsync")
	if provider == "" || err != nil {
		give(tb, fmt.Errorf("Galera is %w: apt-get install galera-4 rsync", errMissing))
	}
	ports := make([]int, 3*n)
	for i := range ports {
		ports[i] = FreePort(tb)
	}
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf("127.0.0.1:%d", ports[3*i]))
	}
	nodes := make([]*Server, n)
	for i := range nodes {
		bootstrap := i == 0
		k := &kind{
			name: "MariaDB", driver: mariaDB.driver, install: mariaDB.install, users: mariaDB.users,
			variable: mariaDB.variable, drop: mariaDB.drop, private: mariaDB.private, parse: mariaDB.parse,
		}
		k.find = func(dir string) (initialize, serve *exec.Cmd, err error) {
			initialize, serve, err = mariaDB.find(dir)
			if err != nil {
				return nil, nil, err
			}
			base := ports[3*i : 3*i+3]
			var args []string
			for _, arg := range serve.Args {
				if !strings.Contains(arg, "binlog") && !strings.HasPrefix(arg, "--server-id") {
					args = append(args, arg)
				}
			}
			serve.Args = append(args, "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
				"--wsrep-on=ON", "--wsrep-provider="+provider, "--wsrep-sync-wait=7",
				"--wsrep-cluster-name=renew-test", "--wsrep-cluster-address=gcomm://"+strings.Join(members, ","),
				fmt.Sprintf("--wsrep-node-name=node%d", i), fmt.Sprintf("--wsrep-node-address=127.0.0.1:%d", base[0]),
				"--wsrep-sst-method=rsync", fmt.Sprintf("--wsrep-sst-receive-address=127.0.0.1:%d", base[2]),
				fmt.Sprintf("--wsrep-provider-options=base_host=127.0.0.1;base_port=%d;gmcast.listen_addr=tcp://127.0.0.1:%[1]d;ist.recv_addr=127.0.0.1:%d;"+
					"gcache.size=64M;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.5S",
					base[0], base[1]))
			if bootstrap {
				if _, err := os.Stat(filepath.Join(dir, "data", "grastate.dat")); err != nil {
					serve.Args = append(serve.Args, "--wsrep-new-cluster")
				}
			}
			return initialize, serve, nil
		}
		s, err := k.start()
		if err != nil {
			tb.Fatal(err)
		}
		nodes[i] = s
		tb.Cleanup(s.Stop)
	}
	return nodes
}
