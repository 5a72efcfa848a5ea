// CUSE: character devices in user space. Each node is one connection to /dev/cuse; a system call on
// the node becomes a message, which becomes a call on a `CharacterDevice`.
//
//   Server ── one per process: starts the sessions, waits for their nodes, counts, quiesces
//     └ Session ── one per node: the connection, the threads that read it, its open files
//         └ Request ── one message; IoctlExchange and SystemCallPosition add what CUSE leaves out
//
// What CUSE cannot do and how it is done here:
//
//   argument structs of any size   read and written in the caller's memory directly, in one round
//                                  trip; FUSE's retry protocol when that is denied (IoctlExchange)
//   file offsets                   recovered from /proc/<tid>/syscall (SystemCallPosition)
//   "which open is fd N?"          a private ioctl on a copy of the descriptor (Identification), and
//                                  from the second time on a look at its mark (FileMark)
//   new descriptors in a client    one openat injected with ptrace, of a second node whose opens
//                                  are matched to files that are waiting (Tracee, ExpectedOpens)
//
// Threads. A session always has a thread reading its connection, because a call may wait for
// another message: identification sends one, and closing a copied descriptor may. Calls that may
// wait therefore pass the `CallGate`, which admits fewer of them than there are threads.
