package renew_test

import (
	"encoding/base64"
	"strings"

	"github.com/jwtrenew/renew"
)

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// spareBits returns a base64url text with other spare bits at its end: the same
// bytes to a reader that does not look.
func spareBits(segment string) string {
	last := strings.IndexByte(base64Digits, segment[len(segment)-1])
	return segment[:len(segment)-1] + base64Digits[last+1:last+2]
}

// uneven returns JSON with white space at its end, so that its base64 has spare
// bits.
func uneven(text string) string {
	return text + strings.Repeat(" ", (4-len(text)%3)%3)
}

// part changes one segment of a token.
func part(token string, i int, change func(segment string) string) string {
	segments := strings.Split(token, ".")
	segments[i] = change(segments[i])
	return strings.Join(segments, ".")
}

func hostileEncodings() []hostileToken {
	var all []hostileToken
	add := func(name, why string, make func(f *forge) string) {
		all = append(all, hostileToken{"base64: " + name, why, renew.ReasonMalformed, make})
	}
	segments := []string{"header", "payload", "signature"}
	for i, segment := range segments {
		each := func(name, why string, change func(string) string) {
			add(segment+", "+name, why, func(f *forge) string { return part(f.refresh, i, change) })
		}
		each("padded", "RFC 7515 section 2: no padding", func(s string) string { return s + strings.Repeat("=", 4-len(s)%4) })
		each("one digit short", "bits that are missing", func(s string) string { return s[:len(s)-len(s)%4-3] })
		each("a line feed in it", "decoders skip line breaks", func(s string) string { return s[:8] + "\n" + s[8:] })
		each("a carriage return in it", "decoders skip line breaks", func(s string) string { return s[:8] + "\r" + s[8:] })
		each("a space in it", "some decoders skip spaces", func(s string) string { return s[:8] + " " + s[8:] })
		each("NUL in it", "a text that ends early elsewhere", func(s string) string { return s[:8] + "\x00" + s[8:] })
		each("a line break after", "decoders skip line breaks", func(s string) string { return s + "\r\n" })
		each("a letter beyond ASCII", "a letter that looks like another", func(s string) string { return "\u0435" + s[1:] })
		each("a percent escape", "encoded for a URL, where there is none", func(s string) string { return "%" + "65" + s[1:] })
		each("of one digit", "no whole byte", func(string) string { return "A" })
	}
	add("payload, all of it in line breaks", "a text that is not the signed one", func(f *forge) string {
		return part(f.refresh, 1, func(s string) string { return strings.Join(strings.Split(s, ""), "\n") })
	})
	add("header, spare bits", "a second text for one token: non-zero bits that are thrown away (RFC 4648 section 3.5)", func(f *forge) string {
		return part(f.withHeader(uneven(f.header(f.es()).String())), 0, spareBits)
	})
	add("payload, spare bits", "a second text for one token", func(f *forge) string {
		return part(f.withPayload(uneven(f.claims().String())), 1, spareBits)
	})
	add("signature, spare bits", "a second text for one token", func(f *forge) string { return part(f.refresh, 2, spareBits) })
	add("signature, the standard alphabet", "RFC 4648 section 4 for section 5", func(f *forge) string {
		for {
			token := f.withPayload(f.claims().String())
			standard := part(token, 2, strings.NewReplacer("-", "+", "_", "/").Replace)
			if standard != token {
				return standard
			}
		}
	})
	around := func(name, before, after string) {
		add(name, "a reader that trims", func(f *forge) string { return before + f.refresh + after })
	}
	around("a space before", " ", "")
	around("a space after", "", " ")
	around("a tab after", "", "\t")
	around("a line feed after", "", "\n")
	around("a line feed before", "\n", "")
	around("line breaks around", "\r\n\r\n", "\r\n")
	around("a vertical tab after", "", "\v")
	around("NUL after", "", "\x00")
	around("a no-break space after", "", "\u00a0")
	around("a zero-width space before", "\u200b", "")
	around("a byte order mark before", "\ufeff", "")
	around("a line separator after", "", "\u2028")
	around("an equals sign after", "", "=")
	add("a full-width dot", "a dot that is none", func(f *forge) string { return strings.Replace(f.refresh, ".", "\uff0e", 1) })
	add("escaped dots", "encoded for a URL, where there is none", func(f *forge) string { return strings.ReplaceAll(f.refresh, ".", "%2E") })
	add("in hexadecimal", "another encoding", func(f *forge) string { return strings.ToUpper(f.refresh) })
	return all
}

func hostileSegments() []hostileToken {
	var all []hostileToken
	add := func(name, why string, make func(f *forge) string) {
		all = append(all, hostileToken{"segments: " + name, why, renew.ReasonMalformed, make})
	}
	for _, token := range []string{".", "..", "...", "....", "a", "a.b", "a.b.c", "e30.e30.e30", "e30.e30.", "null", "undefined", "{}"} {
		add(token, "hardly a token", func(*forge) string { return token })
	}
	header := func(f *forge) string { h, _, _ := f.segments(); return h }
	payload := func(f *forge) string { _, p, _ := f.segments(); return p }
	signature := func(f *forge) string { _, _, s := f.segments(); return s }
	add("the header alone", "one segment", header)
	add("header and payload", "two segments: no signature, not even an empty one", func(f *forge) string { return header(f) + "." + payload(f) })
	add("payload and signature", "two segments", func(f *forge) string { return payload(f) + "." + signature(f) })
	add("no header", "empty", func(f *forge) string { return "." + payload(f) + "." + signature(f) })
	add("no payload", "a detached payload (RFC 7515 appendix F)", func(f *forge) string { return header(f) + ".." + signature(f) })
	add("a detached payload, signed so", "a good signature of nothing", func(f *forge) string {
		return f.withPayload("")
	})
	add("a fourth, empty", "a dot after", func(f *forge) string { return f.refresh + "." })
	add("a dot before", "four segments", func(f *forge) string { return "." + f.refresh })
	add("a fourth", "four segments", func(f *forge) string { return f.refresh + "." + signature(f) })
	add("five", "as many as a JWE has", func(f *forge) string { return f.refresh + ".AAAA.AAAA" })
	add("8,000", "a reader that splits at every dot", func(*forge) string { return strings.Repeat(".", 8000) })
	add("10,000", "a reader that splits at every dot", func(f *forge) string { return f.refresh + strings.Repeat(".a", 10000) })
	add("in another order", "payload for header", func(f *forge) string { return payload(f) + "." + header(f) + "." + signature(f) })
	add("a byte past 8 KiB", "signed and good, but longer than any of this library's", func(f *forge) string {
		return f.ofLength(f.claims().String(), 8<<10+1)
	})
	add("90 KiB", "more than fits in a request", func(f *forge) string { return f.withPayload(f.claims().String() + strings.Repeat(" ", 66<<10)) })
	add("10 MB", "memory", func(f *forge) string { return f.withPayload(f.claims().String() + strings.Repeat(" ", 7500000)) })
	add("10 MB of one digit", "memory", func(*forge) string { return strings.Repeat("A", 10_000_000) })
	return all
}

// decodeLeniently decodes what it can.
func decodeLeniently(segment string) []byte {
	decoded, _ := base64.RawURLEncoding.DecodeString(segment)
	return decoded
}
