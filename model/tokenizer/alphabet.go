package tokenizer

import "unicode/utf8"

// tokenizer.json spells bytes as printable runes, as GPT-2 did: a byte that is printable in Latin-1 stands for itself,
// the others follow from U+0100 on in order. A space is Ġ (U+0120).

// runeOfByte returns the rune that spells b.
func runeOfByte(b byte) rune {
	switch {
	case b <= ' ':
		return 0x100 + rune(b) // 33 of them: U+0100 to U+0120
	case b >= 0x7f && b <= 0xa0:
		return 0x121 + rune(b-0x7f) // 34 of them: U+0121 to U+0142
	case b == 0xad:
		return 0x143
	}
	return rune(b)
}

// byteOfRune undoes runeOfByte.
func byteOfRune(r rune) (byte, bool) {
	switch {
	case r >= 0x100 && r <= 0x120:
		return byte(r - 0x100), true
	case r >= 0x121 && r <= 0x142:
		return byte(r-0x121) + 0x7f, true
	case r == 0x143:
		return 0xad, true
	}
	return byte(r), r > ' ' && r <= 0xff && runeOfByte(byte(r)) == r
}

// appendSpelled appends the spelling of bytes.
func appendSpelled(dst []byte, bytes string) []byte {
	for i := range len(bytes) {
		dst = utf8.AppendRune(dst, runeOfByte(bytes[i]))
	}
	return dst
}

// appendUnspelled appends the bytes that token spells. False: token has a rune that spells none.
func appendUnspelled(dst, token []byte) ([]byte, bool) {
	for i := 0; i < len(token); {
		if b := token[i]; b > ' ' && b < 0x7f {
			dst = append(dst, b)
			i++
			continue
		}
		r, size := utf8.DecodeRune(token[i:])
		b, ok := byteOfRune(r)
		if !ok {
			return dst, false
		}
		dst = append(dst, b)
		i += size
	}
	return dst, true
}
