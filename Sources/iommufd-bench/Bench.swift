// SPDX-License-Identifier: Apache-2.0

// iommufd-bench compares the hot paths of the IOMMU with the same algorithms in C.
//
//   iommufd-bench            prints nanoseconds per operation, the ratio of Swift to C, its limit
//   iommufd-bench --check    also fails when a ratio exceeds its limit
//   iommufd-bench NAME...    measures only these rows, to profile one of them
//
// The limits are 1.3 for look-ups, walks and DMA requests, 1.25 for map and unmap in a page table,
// and 1.5 for nested walks, for MAP and UNMAP of an IOAS and for pins by the kernel from 2 MiB on.
// A pin of one page may take 4 times as long as the two system calls in C, of one page of a file
// 2.5 times.
//
// The two sides take turns and each keeps its best round, so that other load on the machine
// disturbs both sides equally, or neither. Only the ratio is judged.

import Glibc
import Host

@main
struct Bench {
  static func main() throws {
    let arguments = Set(CommandLine.arguments.dropFirst())
    let names = arguments.subtracting(["--check"])
    guard !names.contains(where: { $0.hasPrefix("-") }) else {
      complain("usage: iommufd-bench [--check] [NAME...]")
      exit(2)
    }
    // In a process with one thread, the mutexes of glibc use no atomic instructions
    // (__libc_single_threaded). The server has threads, so the C side is measured as it would run
    // there.
    startThread(named: "second") { while true { pause() } }
    print("                                      C ns   Swift ns   ratio   limit")
    var isGood = true
    let rows = try TranslationWorkload().rows + FormatWorkload().rows() + NestedWorkload().rows
    for row in try rows + IOASWorkload().rows() + (PinWorkload()?.rows() ?? [])
      + (FilePinWorkload()?.rows() ?? [])
    where names.isEmpty || names.contains(row.name) {
      let result = row.measure()
      isGood = isGood && result.ratio <= row.limit
      print(
        row.name.padded(to: 34) + result.yardstick.text(8) + result.ours.text(11)
          + result.ratio.text(8) + row.limit.text(8) + (result.ratio <= row.limit ? "" : "  over"))
    }
    if arguments.contains("--check") && !isGood { exit(1) }
  }
}

/// One line of the result: an operation that both sides do.
struct Row {
  let name: String
  /// The highest ratio of Swift to C that `--check` accepts.
  let limit: Double
  /// The number of operations in a round.
  let count: Int
  /// Does the operation as many times as its argument says, in C, and returns a checksum.
  let yardstick: (Int) -> UInt64
  /// Does the same in Swift.
  let ours: (Int) -> UInt64

  /// Nanoseconds per operation, of the best round of each side.
  struct Result {
    let yardstick: Double
    let ours: Double
    var ratio: Double { ours / yardstick }
  }

  private static let rounds = 15

  func measure() -> Result {
    // The first round fills the caches and proves that both sides do the same.
    let (a, b) = (yardstick(count), ours(count))
    guard a == b else {
      complain("\(name): the checksums of C and Swift differ: \(a), \(b)")
      exit(1)
    }
    var best = (Double.infinity, Double.infinity)
    for _ in 0..<Self.rounds {
      best.0 = min(best.0, time(yardstick))
      best.1 = min(best.1, time(ours))
    }
    return Result(yardstick: best.0, ours: best.1)
  }

  /// Returns nanoseconds of this thread's CPU time per operation.
  private func time(_ body: (Int) -> UInt64) -> Double {
    let start = Self.now()
    sink = sink &+ body(count)
    return Double(Self.now() - start) / Double(count)
  }

  private static func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}

private func complain(_ message: String) {
  let line = Array((message + "\n").utf8)
  _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

/// Keeps the optimizer from removing computations whose results are not used.
nonisolated(unsafe) private var sink: UInt64 = 0

extension String {
  fileprivate func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}

extension Double {
  /// Returns the number with two decimals, or without decimals from 100,000 on, right-aligned.
  fileprivate func text(_ width: Int) -> String {
    let hundredths = Int((self * 100).rounded())
    let digits = String(hundredths % 100)
    let decimals = "." + (digits.count < 2 ? "0" + digits : digits)
    let text = "\(hundredths / 100)" + (self < 100_000 ? decimals : "")
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
