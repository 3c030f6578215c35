"""Where records come from: files of tax authorities and other publishers, read row by row."""
