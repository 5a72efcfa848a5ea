// SPDX-License-Identifier: Apache-2.0

// The CUSE front end: character devices in user space. Each node is one connection to /dev/cuse.
// The kernel turns a system call on the node into a message on the connection. This module turns
// the message into a call on a `CharacterDevice` or an `OpenFile`.
//
//   CUSEServer            one per process: makes the nodes, counts open files and calls
//     └ CUSESession       one per node: the connection, the threads that read it, its open files
//         └ CUSERequest   one message
//
// What CUSE does not offer, and what this module does instead:
//
//   argument structs of any size   read and written in the caller's memory, in one round trip; by
//                                  FUSE's retry protocol where that memory cannot be accessed
//                                  (IoctlExchange, IoctlMemory)
//   offsets and vectors            read from /proc/<tid>/syscall (BlockedCall, TransferMessage)
//   long transfers in one piece    run as a whole at their first message (SplitTransfers)
//   "which open file is fd N?"     a private ioctl on a copy of the descriptor (DescriptorLookup);
//                                  from the second lookup of a file on, kcmp(2) (EpollMark)
//   new descriptors in a client    one openat(2), injected with ptrace(2), of a second node whose
//                                  opens are matched to waiting files (Tracee, ExpectedOpens)
//
// Threads. A session always has a thread that reads its connection, because a call may wait for
// another message: a descriptor lookup sends one, and the close of a copied descriptor may send
// one. Calls that may wait therefore pass the `CallLimiter`, which admits fewer calls than a
// session has threads.
