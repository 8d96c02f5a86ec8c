#!/bin/sh
# Makes the two subsets in this folder from Debian's fonts-dejavu-core 2.37 with fonttools (pip install fonttools).
# Latin with its accents, Greek, and the signs that charts use; no hints; kerning from the kern table.
set -eu
for face in DejaVuSans DejaVuSans-Bold; do
    pyftsubset "/usr/share/fonts/truetype/dejavu/$face.ttf" \
        --unicodes="U+0020-007E,U+00A0-017F,U+0391-03C9,U+2010-2015,U+2018-201D,U+2022,U+2026,U+2032,U+2190-2193,U+2212,U+2248,U+2260,U+2264,U+2265,U+25CB,U+25CF,U+FFFD" \
        --no-hinting --desubroutinize --layout-features=kern --name-IDs=0,1,2,4,5,13,14 --notdef-outline \
        --drop-tables+=FFTM,GPOS,GSUB,GDEF --output-file="$face.subset.ttf"
done
