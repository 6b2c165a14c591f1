# 1.3 error: writes where the grader's files lie
open('/runner.py', 'a').write('# changed')
