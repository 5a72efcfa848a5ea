// SPDX-License-Identifier: Apache-2.0

// Page faults of this process in memory files that it maps: userfaultfd(2), and SIGBUS where a file
// was truncated.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// userfaultfd(2) and UFFDIO_API, for faults of user code in shared memory and hugetlbfs. Returns a
/// non-blocking descriptor or -errno.
int CLinux_file_faults_open(void);
/// UFFDIO_REGISTER: an access to a page of a mapped file that the page table does not have waits,
/// whether the file has the page or not. Returns 0 or -errno.
int CLinux_file_faults_register(int faults, void *base, size_t size);
/// Reads one event. Stores the address of the access, and whether the file has the page. Returns 0
/// or -errno; -EAGAIN when there is none.
int CLinux_file_faults_read(int faults, uint64_t *address, bool *has_page);
/// UFFDIO_WAKE: accesses that wait are repeated. Returns 0 or -errno.
int CLinux_file_faults_wake(int faults, void *base, size_t size);
/// UFFDIO_CONTINUE: the page table gets the page that the file has. Returns 0 or -errno.
int CLinux_file_faults_continue(int faults, void *base, size_t size);

/// mremap(2): moves pages to `to`, in place of what is mapped there. Returns 0 or -errno.
int CLinux_move_pages_to(void *from, void *to, size_t size);

/// An access to guarded memory that raised SIGBUS and waits for an answer.
struct CLinux_lost_page;
/// The address of the access.
uintptr_t CLinux_lost_page_address(const struct CLinux_lost_page *page);
/// Lets the process that reads `pipe` answer for pages of the range at `base` that are lost: each
/// message is a pointer to a struct CLinux_lost_page. -1 ends that.
void CLinux_sigbus_ask(void *base, int pipe);
/// Ends the wait. `is_replaced`: memory is mapped at the address, and the access is repeated;
/// otherwise CLinux_sigbus_guard() replaces the page.
void CLinux_lost_page_answer(struct CLinux_lost_page *page, bool is_replaced);
