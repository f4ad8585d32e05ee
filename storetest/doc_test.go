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

// TestDocumentation shows that the laws are told in the words of the failures:
// those of a TokenStore by package renew, the others by the package's comment.
func TestDocumentation(t *testing.T) {
	contract, doc := comments(t, "../store.go"), comments(t, "doc.go")
	for _, l := range tokenLaws() {
		if strings.HasPrefix(l.id, "T") {
			isTold(t, contract, l.id, l.text)
		} else {
			isTold(t, doc, l.id, l.text)
		}
	}
	for _, l := range keyLaws() {
		isTold(t, doc, l.id, l.text)
	}
}

func isTold(t *testing.T, doc, id, text string) {
	t.Helper()
	if !strings.Contains(doc+" ", id+" "+text+" ") {
		t.Errorf("law %s is not told as the suite tells it: %s", id, text)
	}
}
