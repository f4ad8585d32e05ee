package storetest

import (
	"os"
	"strings"
	"testing"
)

// comments returns the comments of a Go file as running text.
func comments(t *testing.T, file string) string {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(source)) {
		if text, isComment := strings.CutPrefix(strings.TrimSpace(line), "//"); isComment {
			words = append(words, strings.Fields(text)...)
		}
	}
	return strings.Join(words, " ")
}

// TestDocumentation shows that the package's comment tells every law and every
// case in the words of the failures, and that the laws of a TokenStore are those
// of package renew, word for word.
func TestDocumentation(t *testing.T) {
	doc, contract := comments(t, "doc.go"), comments(t, "../store.go")
	for _, l := range tokenLaws() {
		if strings.HasPrefix(l.id, "T") && !strings.Contains(contract, l.id+" "+l.text+" ") {
			t.Errorf("renew.TokenStore does not tell law %s as the suite does: %s", l.id, l.text)
		}
		isTold(t, doc, l)
	}
	for _, l := range keyLaws() {
		isTold(t, doc, l)
	}
}

func isTold[H any](t *testing.T, doc string, l law[H]) {
	t.Helper()
	if !strings.Contains(doc, "# "+l.id+": ") || !strings.Contains(doc, strings.ToUpper(l.text[:1])+l.text[1:]+".") {
		t.Errorf("the package's comment does not tell law %s: %s", l.id, l.text)
	}
}
