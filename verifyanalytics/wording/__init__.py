"""Words and numbers in English and Chinese: texts by key, numbers and names as they are written."""
