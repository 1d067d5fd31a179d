// The published test vectors of the age format, as files: age-vectors FOLDER.
package main

import (
	"fmt"
	"os"

	agetest "c2sp.org/CCTV/age"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: age-vectors FOLDER")
		os.Exit(2)
	}
	if err := os.CopyFS(os.Args[1], agetest.Vectors); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
