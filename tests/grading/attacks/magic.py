# 1.2 error: a command of the shell
!cat /etc/passwd
