// iommufd-bench: the hot paths of the IOMMU against the same algorithms in C, in one run.
//
//   iommufd-bench            prints nanoseconds per operation and the ratio
//   iommufd-bench --check    fails when a ratio is over its limit (DESIGN.md §5)
//
// The two sides take turns, and each row keeps its best round: other load on the machine then
// disturbs both alike, and mostly neither. What is judged is the ratio.

import Glibc

@main
struct Bench {
  static func main() throws {
    let arguments = Set(CommandLine.arguments.dropFirst())
    guard arguments.isSubset(of: ["--check"]) else {
      complain("usage: iommufd-bench [--check]")
      exit(2)
    }
    print("                                      C ns   Swift ns   ratio   limit")
    var isGood = true
    let rows = try Workload().rows + FormatWorkload().rows() + NestedWorkload().rows
    for row in try rows + IOASWorkload().rows() {
      let result = row.measure()
      isGood = isGood && result.ratio <= row.limit
      print(
        row.name.padded(to: 34) + result.yardstick.text(8) + result.ours.text(11)
          + result.ratio.text(8) + row.limit.text(8) + (result.ratio <= row.limit ? "" : "  over"))
    }
    if arguments.contains("--check") && !isGood { exit(1) }
  }
}

/// One operation on both sides. The closures do it `count` times and return a checksum.
struct Row {
  let name: String
  let limit: Double
  let count: Int
  let yardstick: (Int) -> UInt64
  let ours: (Int) -> UInt64

  struct Result {
    let yardstick: Double
    let ours: Double
    var ratio: Double { ours / yardstick }
  }

  private static let rounds = 15

  func measure() -> Result {
    // The first round also proves that both do the same.
    let (a, b) = (yardstick(count), ours(count))
    guard a == b else {
      complain("\(name): the sides disagree, \(a) and \(b)")
      exit(1)
    }
    var best = (Double.infinity, Double.infinity)
    for _ in 0..<Self.rounds {
      best.0 = min(best.0, time(yardstick))
      best.1 = min(best.1, time(ours))
    }
    return Result(yardstick: best.0, ours: best.1)
  }

  /// Nanoseconds of this thread's processor time per operation.
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

/// Keeps results alive.
nonisolated(unsafe) private var sink: UInt64 = 0

extension String {
  fileprivate func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}

extension Double {
  /// With two decimals, but for large numbers.
  fileprivate func text(_ width: Int) -> String {
    let hundredths = Int((self * 100).rounded())
    let digits = String(hundredths % 100)
    let decimals = "." + (digits.count < 2 ? "0" + digits : digits)
    let text = "\(hundredths / 100)" + (self < 100_000 ? decimals : "")
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
